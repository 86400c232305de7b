-- Callbacks: functions of the graph file that are told what became of a task or a run. Each is a piece of work of its own
-- with its own lease, so it cannot delay or change what it tells of, and it is not lost with a worker.
--
-- A callback is queued, claimed and reported as the only task of a small run that nobody lists. The id of that run is the id of
-- the event: <run>_<node>_<attempt>_<kind> of a task, <run>_<kind> of a graph, so one event is queued once. Its plan is called
-- <version>!<node>, with the number of nodes for the graph itself, and is made here from the plan of that version.

local CALLBACK_QUEUE = 'tm-callbacks' -- as tm.callbacks.QUEUE
local CALLBACK = '!callback' -- as tm.callbacks.MARK: what a claim of one has in the place of a task's name
local CALLBACK_WAITS = 604800000 -- ms for a worker that has its graph; nobody is told a week later
local CALLBACK_KEPT = 600000 -- ms, so that a repeated report is known as one

callback_plan = function(c, version)
    local real, spot = string.match(version, '^(.+)!(%d+)$')
    local plan = real and plan_of(c, real)
    if not plan then return nil end
    spot = tonumber(spot)
    local of = spot < plan.n and node_of(plan, spot)
    local node = {
        index = 0, field = '0', first = '_0_1', name = of and of.name or '', called = CALLBACK, queue = CALLBACK_QUEUE, parents = {}, children = {},
        graph = plan.graph, kept = true, retries = 0, delay = 0, backoff = 0, longest = -1, jitter = 0, timeout = '-1',
        wanted = of and plan.graph .. '/' .. of.name or plan.graph,
        label = (of and label_of(of) or plan.graph) .. ' callback',
    }
    node.first_call = rest_of_call(node, 1)
    return { key = plan.key, graph = plan.graph, n = 1, timeout = 0, deadline = 0, roots = { 0 }, nodes = { [0] = node },
        of = plan, version = real, spot = spot }
end

-- Queue one callback. e: what is told, a map without run, graph, tick, params and at.
local function queue_callback(c, run, plan, spot, id, e)
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'tick', 'params')
    if not v[1] or redis.call('EXISTS', run_key(c, id)) == 1 then return end
    e.id, e.run, e.graph, e.at = id, run, plan.graph, c.now
    e.tick, e.params = tonumber(v[2]) or -1, v[3] or ''
    local version = v[1] .. '!' .. spot
    local mine = plan_of(c, version)
    local fields = { 'plan', version, 'state', 'queued', 'ttl', CALLBACK_KEPT, 'given', '1',
        'params', cmsgpack.pack(e) }
    enqueue_first(c, fields, id, mine.nodes[0])
    save(c, id, fields)
    redis.call('PEXPIRE', run_key(c, id), CALLBACK_WAITS)
end

local AFTER = { success = 'success', failed = 'failure', timed_out = 'failure', quarantined = 'failure', killed = 'failure',
    cancelled = 'failure', retrying = 'retry' }

-- An attempt ended, and its task is `after` now; tell it those who want to know.
call_of_task = function(c, a, outcome, after, error, ms, due, reason)
    local r, node = a.r, a.node
    local kind = AFTER[after]
    -- what a stopping worker gives back was not tried
    if after == 'queued' and (outcome == 'killed' or error == '') then kind = 'retry' end
    if not kind or not node.calls[kind] then return end
    local id = a.run .. '_' .. node.field .. '_' .. r[ATTEMPT] .. '_' .. kind
    queue_callback(c, a.run, a.plan, node.index, id, { kind = kind, scope = 'task', task = node.name, attempt = r[ATTEMPT],
        state = after, outcome = outcome, error = error, ms = ms, due = due, reason = reason or '', worker = r[WORKER] })
end

-- A run ended, or its deadline passed; tell it those who want to know.
call_of_graph = function(c, run, plan, kind, state, reason, started)
    if not plan.calls[kind] then return end
    local e = { kind = kind, scope = 'graph', task = '', attempt = 0, state = state, outcome = '', error = '', due = -1,
        reason = reason, worker = '', ms = tonumber(started) and c.now - tonumber(started) or -1 }
    local culprit = kind == 'failure' and redis.call('HGET', run_key(c, run), 'culprit')
    if culprit then
        e.task, e.error = node_of(plan, tonumber(culprit)).name, redis.call('HGET', run_key(c, run), 'e' .. culprit) or ''
    end
    queue_callback(c, run, plan, plan.n, run .. '_' .. kind, e)
end

-- The run, the kind and, of a task, the node that the id of a callback names.
local function parts_of(id)
    local run, node, kind = string.match(id, '^(.+)_(%d+)_%d+_(%a+)$')
    if run then return run, kind, node end
    run, kind = string.match(id, '^(.+)_(%a+)$')
    return run, kind, nil
end

-- What a callback is given as messages: the value it tells of, if that is still there.
callback_inputs = function(c, id, plan)
    local run, kind, node = parts_of(id)
    if kind ~= 'success' then return {} end
    local value = redis.pcall('HGET', out_key(c, run), node or string.format('%d', plan.of.n - 1))
    return type(value) == 'string' and { 'value', value } or {}
end

-- History's note of a callback that has ended; one that is tried again is none of its business.
tell_of_callback = function(c, a, outcome, after, error, ms)
    if after == 'queued' then return end
    local run, kind, node = parts_of(a.run)
    emit(c, 'e', 'callback', 'run', run, 'graph', a.plan.graph, 'task', node and a.node.name or '', 'kind', kind, 'id', a.run,
        'outcome', outcome, 'worker', a.r[WORKER], 'deliveries', a.r[ATTEMPT], 'ms', ms, 'error', error)
end
