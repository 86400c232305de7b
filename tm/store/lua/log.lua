-- Put chunks of what attempts print where followers and the archiver find them. Beyond the limit the oldest are
-- forgotten: who reads sees by their numbers that some are missing.
-- KEYS  1 prefix
-- ARGV  1 limit in bytes, then per chunk: run, the chunk packed
-- Returns how many were forgotten. A repeated call leaves chunks twice, which readers and history tell by their names.
return function(c, args)
    local limit = number(args[1], 'limit', 0)
    local key, meta, size = c.p .. 'logs', c.p .. 'meta', 0
    if redis.call('EXISTS', key) == 0 then redis.call('HDEL', meta, 'logged') end
    for i = 2, #args - 1, 2 do
        redis.call('XADD', key, '*', 'r', args[i], 'd', args[i + 1])
        size = size + #args[i + 1]
    end
    size = redis.call('HINCRBY', meta, 'logged', string.format('%.0f', size))
    local gone, freed = 0, 0
    while size - freed > limit and gone < 1000 do
        local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
        if not oldest then break end
        redis.call('XDEL', key, oldest[1])
        gone, freed = gone + 1, freed + #oldest[2][4]
    end
    if freed > 0 then redis.call('HINCRBY', meta, 'logged', string.format('%.0f', -freed)) end
    return gone
end
