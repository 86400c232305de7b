-- Ring the doorbells again that were lost: popped by somebody who died before claiming.
-- Bells of a queue ring in the order in which attempts were queued. So an attempt older than the one at the head of the
-- list has no bell any more; a deep queue of waiting work is left alone.
-- KEYS  1 prefix
-- ARGV  1 limit   2 ms an attempt must have been queued
-- Returns how many bells were rung.
return function(keys, args)
    local c = context(keys)
    local rung, limit = 0, limit_of(args[1])
    local latest = c.now - number(args[2], 'age')
    for _, queue in ipairs(redis.call('SMEMBERS', c.p .. 'queues')) do
        local key, bells, before = queued_key(c, queue), bell_key(c, queue), latest
        for _ = 1, limit do
            local head = redis.pcall('LINDEX', bells, 0)
            if type(head) ~= 'string' then break end
            local since = redis.call('ZSCORE', key, job_of(c, head))
            if since then
                before = math.min(before, tonumber(since) - 1)
                break
            end
            redis.call('LPOP', bells) -- a bell for nothing
            if split(job_of(c, head)) then redis.call('DEL', rq_job_key(c, job_of(c, head))) end
        end
        for _, job in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, limit - rung)) do
            redis.call('ZADD', key, c.now, job)
            ring_bell(c, queue, job)
            rung = rung + 1
        end
    end
    return rung
end
