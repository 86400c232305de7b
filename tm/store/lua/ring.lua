-- Ring the doorbells again that were lost: popped by somebody who died before claiming.
-- Bells of a queue ring in the order in which attempts were queued. So an attempt older than the one at the head of the
-- list has no bell any more; a deep queue of waiting work is left alone.
-- KEYS  1 prefix
-- ARGV  1 limit   2 ms an attempt must have been queued
-- Returns how many bells were rung.
return function(keys, args)
    local c = context(keys)
    local rung, limit = 0, tonumber(args[1])
    for _, queue in ipairs(redis.call('SMEMBERS', c.p .. 'queues')) do
        local key, before = queued_key(c, queue), c.now - tonumber(args[2])
        for _ = 1, limit do
            local head = redis.call('LINDEX', bell_key(c, queue), 0)
            if not head then break end
            local since = redis.call('ZSCORE', key, head)
            if since then
                before = math.min(before, tonumber(since) - 1)
                break
            end
            redis.call('LPOP', bell_key(c, queue)) -- a bell for nothing
        end
        for _, job in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, limit - rung)) do
            redis.call('ZADD', key, c.now, job)
            ring_bell(c, queue, job)
            rung = rung + 1
        end
    end
    return rung
end
