-- Hand out nothing of a queue until somebody resumes it; what runs goes on.
-- KEYS  1 prefix
-- ARGV  1 queue   2 who says so   3 why, '' if nobody said   4 ms of the instant when it ends by itself, '' for never
-- Returns 1 paused, 0 it was already: since when stays, the rest is as it is said now.
return function(c, args)
    local key, now = paused_queues_key(c), c.now
    local pause = read_pause(redis.call('HGET', key, args[1]))
    local again = in_force(c, pause)
    local new = { by = args[2], reason = args[3], since = again and pause.since or now }
    if args[4] ~= '' then new['until'] = number(args[4], 'end of a pause', 0) end
    redis.call('HSET', key, args[1], cmsgpack.pack(new))
    return again and 0 or 1
end
