-- End the pause of a queue. Workers that wait hear of it when they ask next, within a second.
-- KEYS  1 prefix
-- ARGV  1 queue
-- Returns 1 resumed, 0 it was not paused.
return function(c, args)
    local pause = read_pause(redis.call('HGET', paused_queues_key(c), args[1]))
    redis.call('HDEL', paused_queues_key(c), args[1])
    return in_force(c, pause) and 1 or 0
end
