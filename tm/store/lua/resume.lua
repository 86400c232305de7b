-- End a pause. What becomes of the ticks that were missed is left to the leader, which forgets the pause afterwards.
-- KEYS  1 prefix
-- ARGV  1 graph, '' for all, those that were paused one by one included   2 who says so
--       3 what becomes of missed ticks: skip, latest, all, or '' for the graph's own rule
-- Returns how many pauses ended; -1 when the graph is paused only as one of all.
local RULES = { [''] = true, skip = true, latest = true, all = true }

return function(c, args)
    if not RULES[args[3]] then error({ err = 'ERR no catch-up is called ' .. args[3] }) end
    local key, ended = c.p .. 'paused', 0
    local everything = read_pause(redis.call('HGET', key, ALL))
    local function finish(graph, pause)
        pause.resumed, pause.resumed_by = c.now, args[2]
        if args[3] ~= '' then pause.catch_up = args[3] end
        redis.call('HSET', key, graph, cmsgpack.pack(pause))
        ended = ended + 1
    end
    if args[1] ~= ALL then
        local pause = read_pause(redis.call('HGET', key, args[1]))
        if in_force(c, everything) then return -1 end
        if in_force(c, pause) then finish(args[1], pause) end
        return ended
    end
    local own = {}
    local found = redis.call('HGETALL', key)
    for k = 1, #found, 2 do
        local pause = read_pause(found[k + 1])
        if found[k] ~= ALL and in_force(c, pause) then
            own[found[k]] = true
            finish(found[k], pause)
        end
    end
    if in_force(c, everything) then
        local alone = ended
        for _, graph in ipairs(redis.call('SMEMBERS', c.p .. 'names')) do
            if not own[graph] then
                finish(graph, { by = everything.by, reason = everything.reason, since = everything.since })
            end
        end
        redis.call('HDEL', key, ALL)
        ended = alone + 1
    end
    return ended
end
