-- Declare attempts lost whose lease has lapsed, and queue their tasks again or quarantine them.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns how many leases were handled.
return function(c, args)
    local jobs = redis.call('ZRANGEBYSCORE', c.p .. 'leases', '-inf', c.stamp, 'LIMIT', 0, limit_of(args[1]))
    for k = 1, #jobs do
        local a = look_up(c, jobs[k])
        c.released[k] = jobs[k]
        if a and a.open and a.current and a.r[STATE] == 'running' then
            fail(c, a, 'lost', '', true, true, c.now - a.r[CLAIMED], 0)
        end
    end
    return #jobs
end
