-- Pauses: of graphs, which make no ticks meanwhile, and of queues, of which nothing is handed out.
-- Two hashes, `paused` and `paused_queues`: name -> packed map by, reason, since, until, resumed, catch_up. The graph called ''
-- is all of them; the pause of a queue has neither of the last two, for nothing is left to do when it ends.

local ALL = ''

local function read_pause(packed)
    local good, pause = pcall(cmsgpack.unpack, packed or '')
    return packed and good and type(pause) == 'table' and pause or nil
end

local function in_force(c, pause)
    return pause and not pause.resumed and (not pause['until'] or pause['until'] > c.now)
end

-- Pause what is called args[1] in this hash, as args[2] (who), args[3] (why) and args[4] (ms of its end, or '') say.
-- Returns 1, or 0 when it was paused already: since when stays, the rest is as it is said now.
local function put_pause(c, key, args)
    local pause = read_pause(redis.call('HGET', key, args[1]))
    local again = in_force(c, pause)
    local new = { by = args[2], reason = args[3], since = again and pause.since or c.now }
    if args[4] ~= '' then new['until'] = number(args[4], 'end of a pause', 0) end
    redis.call('HSET', key, args[1], cmsgpack.pack(new))
    return again and 0 or 1
end

-- The pause that keeps a graph from running now; nil when there is none.
local function pause_of(c, graph)
    local found = redis.call('HMGET', c.p .. 'paused', graph, ALL)
    for k = 1, 2 do
        local pause = read_pause(found[k])
        if in_force(c, pause) then return pause end
    end
    return nil
end

local function paused_queues_key(c) return c.p .. 'paused_queues' end

-- The queues that are paused now, as queue -> true; those whose pause has ended by itself are forgotten.
local function paused_queues(c)
    local queues, found = {}, redis.pcall('HGETALL', paused_queues_key(c))
    for k = 1, #found, 2 do
        if in_force(c, read_pause(found[k + 1])) then
            queues[found[k]] = true
        else
            redis.call('HDEL', paused_queues_key(c), found[k])
        end
    end
    return queues
end
