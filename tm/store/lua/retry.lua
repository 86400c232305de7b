-- Start a run that repairs one that has ended: what is kept of it is over from the beginning, with its messages.
-- KEYS  1 prefix
-- ARGV  1 the run to repair   2 id of the new one   3 version of its plan   4 trigger   5 params   6 config
--       7 ms to keep a run that succeeded   8 ms to keep one that did not   9 who asks   10 why
--       11 for each node of the plan, packed: -1 it runs; k it is kept as node k of the old run left it; -2 it is skipped,
--          for nobody asked for it; { state, what it was } somebody says that it is over
-- Returns 1 created, 0 that id exists, 2 call again with the same arguments: messages are copied bit by bit, and the run
-- begins when all are there. Fails, and then there is no new run, with NOPLAN; with OPEN when the old run has not ended;
-- with GONE and a name when a message is no longer on the server, or GONE alone when the whole run is not.
local BYTES, MESSAGES = 4194304, 1000 -- that one call copies at most: some ms
local PATIENCE = 600000 -- ms until messages without a run are forgotten

return function(c, args)
    local source, run, version = args[1], args[2], args[3]
    if run == '' or run == source then error({ err = 'ERR a retry needs an id of its own' }) end
    number(args[7], 'time to keep a run', 0)
    number(args[8], 'time to keep a failed run', 0)
    local plan = plan_for_start(c, version)
    if not plan then return redis.error_reply('NOPLAN unknown version ' .. version) end
    local good, spec = pcall(cmsgpack.unpack, args[11])
    if not good or type(spec) ~= 'table' or #spec ~= plan.n then error({ err = 'ERR the tasks of a retry are cut short' }) end
    if redis.call('EXISTS', run_key(c, run)) == 1 then return 0 end
    local old = redis.call('HMGET', run_key(c, source), 'state', 'tick', 'graph')
    if not old[1] then return redis.error_reply('GONE') end
    if is_open(old[1]) then return redis.error_reply('OPEN') end
    if old[3] ~= plan.graph then error({ err = 'ERR run ' .. source .. ' is of graph ' .. old[3] }) end

    -- 1. what is kept must have ended well, and its message be there; copy as many as this call has room for
    local from, to, copied, bytes, more = out_key(c, source), out_key(c, run), {}, 0, false
    local label = redis.sha1hex(source .. '\n' .. version .. '\n' .. args[11])
    if redis.call('HGET', to, 'of') ~= label then -- nobody's, or another retry's that was given up
        redis.call('DEL', to)
        redis.call('HSET', to, 'of', label)
    end
    redis.call('PEXPIRE', to, PATIENCE)
    for _, field in ipairs(redis.call('HKEYS', to)) do copied[field] = true end
    local states, count = {}, 0
    for index = 0, plan.n - 1 do
        local entry, field = spec[index + 1], string.format('%d', index)
        if type(entry) == 'number' and entry >= 0 then
            local was = string.format('%d', entry)
            local r = read_record(redis.call('HGET', run_key(c, source), was))
            states[index] = r and r[STATE] or ''
            if states[index] ~= 'success' and states[index] ~= 'skipped' then
                error({ err = 'ERR task ' .. node_of(plan, index).name .. ' cannot be kept: it is ' .. states[index] })
            end
            if not copied[field] then
                if count >= MESSAGES or bytes >= BYTES then
                    more = true
                    break
                end
                local value = redis.call('HGET', from, was)
                if not value and states[index] == 'skipped' then value = NOTHING end
                if not value then
                    redis.call('DEL', to)
                    return redis.error_reply('GONE ' .. node_of(plan, index).name)
                end
                redis.call('HSET', to, field, value)
                count, bytes = count + 1, bytes + #value
            end
        end
    end
    if more then return 2 end

    -- 2. the run itself
    local fields, nothing, kept, skipped, marks, over, done = {}, {}, {}, {}, {}, {}, 0
    for index = 0, plan.n - 1 do
        local entry, field, state = spec[index + 1], string.format('%d', index), nil
        if type(entry) == 'table' then
            state = entry[1]
            if state ~= 'success' and state ~= 'skipped' then error({ err = 'ERR no retry takes a task as ' .. tostring(state) }) end
            marks[#marks + 1] = { index, entry[2], state }
        elseif entry == -2 then
            state = 'skipped'
            skipped[#skipped + 1] = { index, node_of(plan, index).name, state }
        elseif entry >= 0 then
            state = states[index]
            kept[#kept + 1] = { index, node_of(plan, index).name, state }
        end
        if state then
            if type(entry) == 'table' or entry < 0 then
                nothing[#nothing + 1] = field
                nothing[#nothing + 1] = NOTHING
            end
            fields[#fields + 1] = field
            fields[#fields + 1] = packed_record(record(state, 0, c.now))
            over[index], done = true, done + 1
        end
    end
    local ready, pinned = {}, false
    for index = 0, plan.n - 1 do
        local node, arrived = node_of(plan, index), 0
        for _, parent in ipairs(node.parents) do
            if over[parent] then arrived = arrived + 1 end
        end
        if over[index] then
            pinned = pinned or arrived < #node.parents
        elseif arrived == #node.parents then
            ready[#ready + 1] = index
        elseif arrived > 0 then
            fields[#fields + 1] = 'w' .. node.field
            fields[#fields + 1] = string.format('%d', arrived)
        end
    end
    local ends = done == plan.n
    give(fields, 'graph', plan.graph)
    give(fields, 'plan', version)
    give(fields, 'state', ends and 'success' or 'queued')
    give(fields, 'trigger', args[4])
    give(fields, 'tick', old[2] or '')
    give(fields, 'created', c.stamp)
    give(fields, 'done', string.format('%d', done))
    give(fields, 'ttl', args[7])
    give(fields, 'failed_ttl', args[8])
    give(fields, 'retry_of', source)
    give(fields, 'params', args[5])
    give(fields, 'config', args[6])
    give(fields, 'given', (args[5] ~= '' or args[6] ~= '') and '1' or '')
    give(fields, 'pinned', pinned and '1' or '')
    give(fields, 'ended', ends and c.stamp or '')
    redis.call('HDEL', to, 'of')
    save_all(c, to, nothing)
    redis.call('PERSIST', to)
    save_all(c, run_key(c, run), fields)
    emit(c, 'e', 'run', 'run', run, 'graph', plan.graph, 'plan', version, 'trigger', args[4], 'tick', tonumber(old[2]) or -1,
        'params', args[5], 'config', args[6], 'state', 'queued', 'reason', args[10], 'retry_of', source)
    if kept[1] then emit(c, 'e', 'kept', 'run', run, 'source', source, 'tasks', kept) end
    if skipped[1] then emit(c, 'e', 'kept', 'run', run, 'source', '', 'tasks', skipped) end
    for _, m in ipairs(marks) do emit_mark(c, run, node_of(plan, m[1]), m[2], m[3], args[9], args[10]) end
    c.uses[plan] = (c.uses[plan] or 0) + 1
    if ends then
        close_run(c, run, plan, 'success', '', '', tonumber(args[7]))
        return 1
    end
    redis.call('ZADD', open_key(c, plan.graph), c.stamp, run)
    if plan.timeout > 0 then redis.call('ZADD', c.p .. 'deadlines', c.now + plan.timeout * 1000, run) end
    if plan.deadline > 0 then watch_deadline(c, run, plan, args[4], -1) end
    queue_nodes(c, run, plan, ready)
    return 1
end
