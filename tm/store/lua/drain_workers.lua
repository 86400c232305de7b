-- Ask workers to take no more work, finish what they have, and end. Each hears of it at its next heartbeat (`announce`).
-- KEYS  1 prefix
-- ARGV  1 who asks   2 ms after which they give back what still runs, '' for never   workers...
-- Returns those that are there. A repeat says it anew.
return function(c, args)
    if args[2] ~= '' then number(args[2], 'limit of a drain', 0) end
    local found = {}
    for k = 3, #args do
        local about = c.p .. 'worker:' .. args[k]
        if redis.call('EXISTS', about) == 1 then
            redis.call('HSET', about, 'drain', args[1], 'drain_ms', args[2])
            found[#found + 1] = args[k]
        end
    end
    return found
end
