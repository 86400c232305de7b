-- Make no more ticks of a graph, and no runs for a backfill, until somebody resumes it; runs by hand go ahead.
-- KEYS  1 prefix
-- ARGV  1 graph, '' for all   2 who says so   3 why, '' if nobody said   4 ms of the instant when it ends by itself, '' for never
-- Returns 1 paused, 0 it was already: since when stays, the rest is as it is said now.
return function(c, args) return put_pause(c, c.p .. 'paused', args) end
