-- Declare attempts lost whose lease has lapsed, and queue their tasks again or quarantine them.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns how many leases were handled.
return function(keys, args)
    local c = context(keys)
    local jobs = redis.call('ZRANGEBYSCORE', c.p .. 'leases', '-inf', c.now, 'LIMIT', 0, limit_of(args[1]))
    for _, job in ipairs(jobs) do
        local a = look_up(c, job)
        redis.call('ZREM', c.p .. 'leases', job)
        if a and a.current and a.r[STATE] == 'running' then fail(c, a, 'lost', '', true, true, c.now - a.r[CLAIMED], 0) end
    end
    return #jobs
end
