-- Fail a queued attempt that nobody is going to take.
-- KEYS  1 prefix
-- ARGV  1 job   2 error, a msgpack map
-- Returns 1, or 0 when it is not queued (any more): somebody has taken it after all.
return function(c, args)
    local a = look_up(c, args[1])
    if not a or not a.current or not a.open or a.r[STATE] ~= 'queued' then return 0 end
    unqueue(c, a.node.queue, args[1])
    a.r[CLAIMED] = c.now
    fail(c, a, 'failed', args[2], false, false, 0, 0)
    return 1
end
