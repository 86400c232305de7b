-- Queue the retries that are due, and go on with what earlier calls left for later.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns { how many retries were handled, ms until there is more to do or -1 }.
return function(c, args)
    local key, limit = c.p .. 'retry', limit_of(args[1])
    drain(c)
    local jobs = redis.call('ZRANGEBYSCORE', key, '-inf', c.stamp, 'LIMIT', 0, limit)
    for k = 1, #jobs do
        local run, index, attempt = split(jobs[k])
        local a = run and look_up(c, run .. '_' .. index .. '_' .. (attempt - 1))
        redis.call('ZREM', key, jobs[k])
        if not a then bury(c, jobs[k]) end
        if a and a.open and a.current and a.r[STATE] == 'retrying' then
            local fields = {}
            a.r[ATTEMPT] = attempt
            enqueue(c, fields, a.run, a.node, a.r)
            save(c, a.run, fields)
        end
    end
    if redis.call('LLEN', c.p .. 'backlog') > 0 then return { #jobs, 0 } end
    local next = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return { #jobs, next[2] and math.max(0, tonumber(next[2]) - c.now) or -1 }
end
