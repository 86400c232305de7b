-- Put back at the head of its queue a doorbell that was popped by a worker without room.
-- KEYS  1 prefix
-- ARGV  1 the bell
-- Returns 1 put back, 0 it was for nothing.
return function(c, args)
    return hand_back(c, args[1])
end
