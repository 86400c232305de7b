-- Become or stay the leader of the schedulers.
-- KEYS  1 prefix
-- ARGV  1 who   2 ms the right lasts
-- Returns the fencing token, which grows with every change of leader; 0 while somebody else leads.
return function(keys, args)
    local c = context(keys)
    local key = c.p .. 'leader'
    local v = redis.call('HMGET', key, 'id', 'token', 'until')
    local free = not v[1] or v[1] == '' or tonumber(v[3]) < c.now
    if v[1] ~= args[1] and not free then return 0 end
    if v[1] ~= args[1] or free then redis.call('HINCRBY', key, 'token', 1) end
    redis.call('HSET', key, 'id', args[1], 'until', c.now + tonumber(args[2]))
    return tonumber(redis.call('HGET', key, 'token'))
end
