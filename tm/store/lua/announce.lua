-- Say which graphs a worker has loaded, and what it is; both are forgotten unless said again.
-- One of those that a full server lets through: a worker that may not say this gets no work.
-- KEYS  1 prefix
-- ARGV  1 worker   2 ms to remember it   3 number of offers   offers...   then name, value of each thing known of it
--       An offer is a graph, "graph/task", or "graph/": of this graph only the tasks that are named.
--       Of what is known, `queues` (with commas) is also kept by queue: when a worker of it was last heard of.
-- Returns { who asked this worker to drain, or '', ms it may take, or '' }. Repeating it extends the time.
local REMEMBERED = 86400000 -- ms a worker is listed after it was heard of last

local function put(command, key, args, first, last)
    for from = first, last, UNPACKABLE do
        redis.call(command, key, unpack(args, from, math.min(from + UNPACKABLE - 1, last)))
    end
end

return function(c, args)
    local ttl, n = number(args[2], 'time to remember a worker', 1), number(args[3], 'number of offers', 0)
    local offers, about = c.p .. 'offers:' .. args[1], c.p .. 'worker:' .. args[1]
    if (#args - 3 - n) % 2 ~= 0 then error({ err = 'ERR a name without a value' }) end
    redis.call('DEL', offers)
    put('SADD', offers, args, 4, 3 + n)
    put('HSET', about, args, 4 + n, #args)
    redis.call('PEXPIRE', offers, ttl)
    redis.call('PEXPIRE', about, ttl)
    redis.call('ZADD', c.p .. 'workers', c.stamp, args[1])
    redis.call('ZREMRANGEBYSCORE', c.p .. 'workers', '-inf', c.now - REMEMBERED)
    for queue in string.gmatch(redis.call('HGET', about, 'queues') or '', '[^,]+') do
        redis.call('HSET', c.p .. 'attended', queue, c.stamp)
    end
    heard_of(c, args[1])
    local drain = redis.call('HMGET', about, 'drain', 'drain_ms')
    return { drain[1] or '', drain[2] or '' }
end
