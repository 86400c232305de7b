-- Queue the retries that are due.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns { how many were handled, ms until the next is due or -1 }.
return function(keys, args)
    local c = context(keys)
    local key = c.p .. 'retry'
    local jobs = redis.call('ZRANGEBYSCORE', key, '-inf', c.now, 'LIMIT', 0, limit_of(args[1]))
    for _, job in ipairs(jobs) do
        local run, index, attempt = split(job)
        local a = run and look_up(c, run .. '_' .. index .. '_' .. (attempt - 1))
        redis.call('ZREM', key, job)
        if a and a.current and a.r[STATE] == 'retrying' then
            a.r[ATTEMPT] = attempt
            enqueue(c, a.run, a.plan, a.node, a.r)
        end
    end
    local next = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return { #jobs, next[2] and math.max(0, tonumber(next[2]) - c.now) or -1 }
end
