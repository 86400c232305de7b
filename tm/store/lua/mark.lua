-- Say how a task of an open run has ended, as if it had ended so by itself; children of a success receive None.
-- KEYS  1 prefix
-- ARGV  1 run   2 node   3 state: success, failed or skipped   4 who says so   5 why
-- Returns { 1, what the task was }; { 0, what it is } when it is over already; { -1, state of the run or '' } when the run
-- is not open. An attempt that runs loses its lease; its worker ends it at the next heartbeat.
local OPEN = { waiting = true, queued = true, running = true, retrying = true }

return function(c, args)
    local run, state = args[1], args[3]
    if not MARKABLE[state] then error({ err = 'ERR no task is marked ' .. state }) end
    local index = number(args[2], 'node', 0)
    local field = string.format('%d', index)
    local v = redis.call('HMGET', run_key(c, run), 'plan', 'state', 'started', 'ttl', 'done', 'bad', field)
    local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
    if not plan then return { -1, v[2] or '' } end
    if index >= plan.n then error({ err = 'ERR the run has no node ' .. field }) end
    local node, r = node_of(plan, index), v[7] and read_record(v[7]) or record('waiting', 0, c.now)
    local was, job = r[STATE], run .. '_' .. field .. '_' .. r[ATTEMPT]
    if not OPEN[was] then return { 0, was } end
    if state == 'success' then redis.call('HSET', out_key(c, run), field, NOTHING) end
    if was == 'queued' then
        unqueue(c, node.queue, job)
    elseif was == 'running' then
        c.released[#c.released + 1] = job
    elseif was == 'retrying' then
        redis.call('ZREM', c.p .. 'retry', run .. '_' .. field .. '_' .. (r[ATTEMPT] + 1))
    end
    emit_mark(c, run, node, was, state, args[4], args[5])
    r[STATE], r[AT] = state, c.now
    local a = {
        run = run, plan = plan, started = v[3], ttl = tonumber(v[4]), done = (tonumber(v[5]) or 0) + 1,
        bad = state == 'failed' or v[6],
    }
    local fields = { field, packed_record(r), 'pinned', '1' }
    if state == 'success' then
        queue_ready(c, fields, run, plan, index, 1, true)
    elseif state == 'skipped' then
        no_result(c, run, plan, node)
        close_below(c, a, fields, { index, 1 }, state, 'parent ' .. node.name .. ' skipped')
    else
        fields[5], fields[6] = 'bad', '1'
        close_below(c, a, fields, { index, 1 }, 'blocked', 'parent ' .. node.name .. ' failed')
    end
    save_ended(c, a, fields)
    return { 1, was }
end
