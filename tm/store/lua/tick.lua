-- Turn due ticks of one graph into runs, or into recorded skips and failures. Only the leader may.
-- KEYS  1 prefix
-- ARGV  1 leader   2 its token   3 version   4 ms to keep a run that succeeded   5 ms to keep one that did not
--       then for each tick, in order of time: run id, tick ms, config, trigger, born, reason, overlap,
--       how many open runs are too many for it (0: one, and with overlap allow none)
-- Returns for each tick: created, exists, overlapped, held or fenced; paused, and then for all of them. Repeating answers exists.
local FIELDS = 8

return function(c, args)
    local answers, count = {}, (#args - 5) / FIELDS
    local leader = redis.call('HMGET', c.p .. 'leader', 'id', 'token', 'until')
    if leader[1] ~= args[1] or leader[2] ~= args[2] or tonumber(leader[3]) < c.now then
        for k = 1, count do answers[k] = 'fenced' end
        return answers
    end
    local plan = plan_for_start(c, args[3])
    if not plan then return redis.error_reply('NOPLAN unknown version ' .. args[3]) end
    number(args[4], 'time to keep a run', 0)
    number(args[5], 'time to keep a failed run', 0)
    if count ~= math.floor(count) then error({ err = 'ERR a tick is cut short' }) end
    for k = 1, count do number(args[5 + (k - 1) * FIELDS + 2], 'tick') end
    for k = 1, count do number(args[5 + k * FIELDS], 'limit of open runs', 0) end
    local graph = plan.graph
    if pause_of(c, graph) then
        for k = 1, count do answers[k] = 'paused' end
        return answers
    end
    local waiting = redis.call('HGET', c.p .. 'held', graph) -- the one tick that overlap="queue" keeps waiting
    local cursor = tonumber(redis.call('HGET', c.p .. 'cursor', graph) or -1)
    for k = 1, count do
        local at = 5 + (k - 1) * FIELDS
        local t = { run = args[at + 1], tick = args[at + 2], config = args[at + 3], trigger = args[at + 4],
            born = args[at + 5], reason = args[at + 6], params = '', ttl = args[4],
            failed_ttl = args[5] }
        local overlap, mine = args[at + 7], waiting == t.tick
        local most = math.max(tonumber(args[at + 8]), 1)
        local last = overlap == 'cancel_other' and -1 or most - 1 -- more need not be known
        write_opened(c) -- of the ticks before
        local open = t.born == 'queued' and overlap ~= 'allow' and redis.call('ZRANGE', open_key(c, graph), 0, last) or {}
        local full = #open >= most
        if (tonumber(t.tick) <= cursor and not mine) or redis.call('EXISTS', run_key(c, t.run)) == 1 then
            answers[k] = 'exists'
            if mine then waiting = false end
        elseif overlap == 'queue' and full and (not waiting or mine) then
            waiting = t.tick
            redis.call('HSET', c.p .. 'held', graph, waiting)
            answers[k] = 'held'
        else
            answers[k] = 'created'
            -- the one that waits goes first, even if it could begin by now
            local behind = overlap == 'queue' and t.born == 'queued' and waiting and not mine
            if full and overlap == 'cancel_other' then
                for _ = 2, most do open[#open] = nil end -- the oldest end, so that there is room for one
                cancel_runs(c, open, 'cancelled', 'overlap: tick ' .. t.run .. ' is due')
            elseif full or behind then
                answers[k] = 'overlapped'
                t.born = 'skipped'
                t.reason = behind and 'overlap: an earlier tick is waiting already'
                    or most > 1 and 'overlap: ' .. most .. ' runs are still open'
                    or 'overlap: run ' .. open[1] .. ' is still open'
            end
            create_run(c, plan, args[3], t)
            if mine then waiting = false end
        end
        if mine and not waiting then redis.call('HDEL', c.p .. 'held', graph) end
        if tonumber(t.tick) > cursor then
            cursor = tonumber(t.tick)
            redis.call('HSET', c.p .. 'cursor', graph, t.tick)
        end
    end
    return answers
end
