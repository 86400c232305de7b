-- Forget a pause that is over: its missed ticks have been dealt with.
-- KEYS  1 prefix
-- ARGV  1 graph, '' for all   2 the pause as it was read
-- Returns 1 forgotten, 0 somebody has changed it meanwhile, or it is still in force.
return function(c, args)
    local key = c.p .. 'paused'
    local packed = redis.call('HGET', key, args[1])
    if packed ~= args[2] or in_force(c, read_pause(packed)) then return 0 end
    redis.call('HDEL', key, args[1])
    return 1
end
