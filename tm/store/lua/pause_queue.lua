-- Hand out nothing of a queue until somebody resumes it; what runs goes on.
-- KEYS  1 prefix
-- ARGV  1 queue   2 who says so   3 why, '' if nobody said   4 ms of the instant when it ends by itself, '' for never
-- Returns 1 paused, 0 it was already: since when stays, the rest is as it is said now.
return function(c, args) return put_pause(c, paused_queues_key(c), args) end
