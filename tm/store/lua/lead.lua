-- Become or stay the leader of the schedulers.
-- KEYS  1 prefix
-- ARGV  1 who   2 ms the right lasts
-- Returns the fencing token, which grows with every change of leader; 0 while somebody else leads.
return function(c, args)
    local key, lasts = c.p .. 'leader', number(args[2], 'lease', 1)
    local v = redis.call('HMGET', key, 'id', 'token', 'until', 'lasts')
    local ends, vacant = tonumber(v[3] or 0), not v[1] or v[1] == ''
    local over = vacant or ends < c.now
    -- a right that ends later than it can was given before the server's clock went back: it would outlast its holder
    local too_long = ends > c.now + 2 * tonumber(v[4] or lasts)
    if v[1] ~= args[1] and not over and not too_long then return 0 end
    if v[1] ~= args[1] or over then
        redis.call('HINCRBY', key, 'token', 1)
        redis.call('HSET', key, 'since', c.stamp)
    end
    redis.call('HSET', key, 'id', args[1], 'until', string.format('%.0f', c.now + lasts), 'lasts', lasts)
    return tonumber(redis.call('HGET', key, 'token'))
end
