-- What people change about runs and clocks: tasks marked by hand, retries that keep what succeeded.

local MARKABLE = { success = true, failed = true, skipped = true }

-- History's audit of a mark: who said what of which task, and what it was before.
local function emit_mark(c, run, node, was, state, by, reason)
    emit(c, 'e', 'mark', 'run', run, 'node', node.index, 'task', node.name, 'was', was, 'state', state, 'by', by, 'reason', reason)
end

local function save_all(c, key, fields)
    for first = 1, #fields, UNPACKABLE do -- an even number, so that no pair is torn
        redis.call('HSET', key, unpack(fields, first, math.min(first + UNPACKABLE - 1, #fields)))
    end
end

-- Queue these tasks of a run that nothing has happened to, as far as there is room.
local function queue_nodes(c, run, plan, nodes)
    local fields = {}
    for k = 1, #nodes do
        if c.room <= 0 then
            local rest = {}
            for j = k, #nodes do rest[#rest + 1] = nodes[j] end
            defer(c, { 'nodes', run, rest })
            break
        end
        c.room = c.room - 1
        enqueue_first(c, fields, run, node_of(plan, nodes[k]))
    end
    save(c, run, fields)
end

RESUME.nodes = function(c, work)
    local run, nodes = work[2], {}
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state')
    local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
    if not plan then return end
    for _, index in ipairs(work[3]) do -- somebody may have marked one meanwhile
        if redis.call('HEXISTS', run_key(c, run), string.format('%d', index)) == 0 then nodes[#nodes + 1] = index end
    end
    queue_nodes(c, run, plan, nodes)
end
