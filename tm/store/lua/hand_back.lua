-- Put back at the head of its queue a doorbell that was popped by a worker without room.
-- KEYS  1 prefix
-- ARGV  1 job
-- Returns 1 put back, 0 it was for nothing.
return function(keys, args)
    local c = context(keys)
    local a = look_up(c, args[1])
    if not a or a.r[STATE] ~= 'queued' then return 0 end
    redis.call('LPUSH', bell_key(c, a.node.queue), args[1])
    return 1
end
