-- Forget chunks of log lines up to and with a stream id: history has them.
-- KEYS  1 prefix
-- ARGV  1 stream id   2 most chunks in one call
-- Returns how many are gone; as many as asked for: call again.
return function(c, args)
    local most = limit_of(args[2])
    local key = c.p .. 'logs'
    local entries, freed = redis.call('XRANGE', key, '-', args[1], 'COUNT', most), 0
    for i = 1, #entries do
        redis.call('XDEL', key, entries[i][1])
        freed = freed + #entries[i][2][4]
    end
    if freed > 0 then redis.call('HINCRBY', c.p .. 'meta', 'logged', string.format('%.0f', -freed)) end
    return #entries
end
