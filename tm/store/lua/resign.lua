-- Give leadership back, so that a standby takes over at once.
-- KEYS  1 prefix
-- ARGV  1 who   2 its token
-- Returns 1 given back, 0 it was not theirs.
return function(c, args)
    local key = c.p .. 'leader'
    local v = redis.call('HMGET', key, 'id', 'token')
    if v[1] ~= args[1] or v[2] ~= args[2] then return 0 end
    redis.call('HSET', key, 'id', '', 'until', c.stamp) -- since when there is none
    return 1
end
