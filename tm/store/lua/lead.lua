-- Become or stay the leader of the schedulers.
-- KEYS  1 prefix
-- ARGV  1 who   2 ms the right lasts
-- Returns the fencing token, which grows with every change of leader; 0 while somebody else leads.
return function(keys, args)
    local c = context(keys)
    local key, lasts = c.p .. 'leader', number(args[2], 'lease', 1)
    local v = redis.call('HMGET', key, 'id', 'token', 'until', 'lasts')
    local ends = tonumber(v[3] or 0)
    -- a right that ends later than it can was given before the server's clock went back: it would outlast its holder
    local free = not v[1] or v[1] == '' or ends < c.now or ends > c.now + 2 * tonumber(v[4] or lasts)
    if v[1] ~= args[1] and not free then return 0 end
    if v[1] ~= args[1] or ends < c.now or v[1] == '' then redis.call('HINCRBY', key, 'token', 1) end
    redis.call('HSET', key, 'id', args[1], 'until', c.now + lasts, 'lasts', lasts)
    return tonumber(redis.call('HGET', key, 'token'))
end
