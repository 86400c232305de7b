-- The moves a run is made of: created, a task queued, succeeded, failed, the run ended. And what is left for later.

local stamp_second, stamp_text = -1, ''

-- RQ's time format, e.g. 2026-11-24T03:39:00.123000Z; the days are counted as in the civil calendar from 1 March
rq_time = function(ms)
    local second = math.floor(ms / 1000)
    if second ~= stamp_second then
        local z = math.floor(second / 86400) + 719468
        local era = math.floor(z / 146097)
        local doe = z - era * 146097
        local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
        local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
        local mp = math.floor((5 * doy + 2) / 153)
        local month = mp < 10 and mp + 3 or mp - 9
        local year = yoe + era * 400 + (month <= 2 and 1 or 0)
        local s = second % 86400
        stamp_text = string.format('%04d-%02d-%02dT%02d:%02d:%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1,
            math.floor(s / 3600), math.floor(s / 60) % 60, s % 60)
        stamp_second = second
    end
    return string.format('%s.%03d000Z', stamp_text, ms % 1000)
end

-- Work beyond this call's room goes to a list that later calls, and at the latest the leader, go on with --------------

local backlogged = {} -- prefix -> false when the list is known to be empty; another version of the library may disagree

local function defer(c, work)
    redis.call('RPUSH', c.p .. 'backlog', cmsgpack.pack(work))
    backlogged[c.p] = true
end

local RESUME = {} -- kind -> function(c, work)

local function drain(c)
    while c.room > 0 do
        local packed = redis.pcall('LPOP', c.p .. 'backlog')
        if type(packed) ~= 'string' then
            backlogged[c.p] = false
            return
        end
        local room = c.room
        local good, work = pcall(cmsgpack.unpack, packed)
        if good and RESUME[work[1]] then RESUME[work[1]](c, work) end
        if c.room == room then c.room = room - 1 end -- work that had become needless
    end
end

-- Queueing -----------------------------------------------------------------------------------------------------------------

-- Note that this call has queued a job, and ring for it at the end. bells: where its bell is added, c.bells if nil.
local function note_queued(c, job, run, node, attempt, bells)
    local fresh = c.fresh
    local n = #fresh
    fresh[n + 1], fresh[n + 2], fresh[n + 3], fresh[n + 4] = job, run, node, attempt
    c.waiting[job] = n + 1
    add(bells or c.bells, node.queue, bell_of(c, job))
end

-- Queue attempt r[ATTEMPT] of a node; the caller has set the record's counters and saves `fields` in the run.
local function enqueue(c, fields, run, node, r, bells)
    local attempt = r[ATTEMPT]
    local job = run .. (attempt == 1 and first_of(node) or '_' .. node.field .. '_' .. attempt)
    r[STATE], r[TOKEN], r[CLAIMED], r[WORKER], r[AT] = 'queued', '', 0, '', c.now
    local n = #fields
    fields[n + 1], fields[n + 2] = node.field, packed_record(r)
    note_queued(c, job, run, node, attempt, bells)
end

-- Queue the first attempt of a node. All that one call queues have the same record, which is packed once.
local function enqueue_first(c, fields, run, node)
    c.first_record = c.first_record or packed_record(record('queued', 1, c.now))
    local n = #fields
    fields[n + 1], fields[n + 2] = node.field, c.first_record
    note_queued(c, run .. first_of(node), run, node, 1)
end

local function unqueue(c, queue, job)
    if c.waiting[job] then
        c.waiting[job] = nil
    else
        add(c.unqueued, queue, job)
        c.gone[#c.gone + 1] = rq_job_key(c, job)
    end
end

-- Queue those roots (source -1) or children of a node, from the k-th on, for which no parent is missing any more.
-- pinned: tasks of this run were over before their parents (a person said so), and are left alone.
local function queue_ready(c, fields, run, plan, source, k, pinned)
    local nodes = source < 0 and plan.roots or node_of(plan, source).children
    for at = k, #nodes do
        if c.room <= 0 then return defer(c, { 'queue', run, source, at }) end
        c.room = c.room - 1
        local node = node_of(plan, nodes[at])
        local parents = #node.parents
        if pinned and redis.call('HEXISTS', run_key(c, run), node.field) == 1 then
            -- it has been dealt with
        elseif parents <= 1 or redis.call('HINCRBY', run_key(c, run), 'w' .. node.field, 1) == parents then
            enqueue_first(c, fields, run, node)
        end
    end
end

local function save(c, run, fields)
    if #fields > 0 then redis.call('HSET', run_key(c, run), unpack(fields)) end -- at most 2 * ROOM and a few
end

-- Queue an attempt that was claimed and has not begun, as if it had not been claimed: as old as it is and, unless it is said
-- where its bell is added, at the head.
local function put_back(c, a, bells)
    local r, since, fields = a.r, a.r[AT], {}
    enqueue(c, fields, a.run, a.node, r, bells or c.first)
    r[AT] = since
    fields[2] = packed_record(r)
    c.since[a.job] = string.format('%.0f', since)
    save(c, a.run, fields)
end

RESUME.queue = function(c, work)
    local run = work[2]
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'pinned')
    local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
    if not plan then return end
    local fields = {}
    queue_ready(c, fields, run, plan, work[3], work[4], v[3])
    save(c, run, fields)
end

-- Runs ----------------------------------------------------------------------------------------------------------------

-- Everything about the end of a run but the record of its state, which the caller has just saved. What did not succeed is
-- kept for longer, so that it can be repaired in the morning.
local function close_run(c, run, plan, state, reason, started, ttl)
    if plan.of then -- of a callback
        redis.call('PEXPIRE', run_key(c, run), ttl)
        return
    end
    local key = run_key(c, run)
    if state ~= 'success' then ttl = tonumber(redis.call('HGET', key, 'failed_ttl') or ttl) end
    redis.call('PEXPIRE', key, ttl)
    redis.call('PEXPIRE', out_key(c, run), ttl)
    add(c.closed, plan.open, run)
    if plan.timeout > 0 then redis.call('ZREM', c.p .. 'deadlines', run) end
    if plan.deadline > 0 then redis.call('ZREM', c.p .. 'late', run) end
    c.uses[plan], c.kept = (c.uses[plan] or 0) - 1, math.max(c.kept or 0, ttl)
    if state == 'success' and reason == '' then
        plan.ended = plan.ended or beginning(7, 'e', 'end', 'graph', plan.graph, 'state', state, 'reason', reason)
        emit_rest(c, plan.ended, 'run', run, 'started', tonumber(started) or -1)
    else
        emit(c, 'e', 'end', 'run', run, 'graph', plan.graph, 'state', state, 'reason', reason, 'started', tonumber(started) or -1)
    end
    redis.call('PUBLISH', c.p .. 'ended:' .. run, state)
    if plan.calls then call_of_graph(c, run, plan, state == 'success' and 'success' or 'failure', state, reason, started) end
end

-- Add a name and its value to fields, unless the value is empty.
local function give(fields, name, value)
    if value ~= '' then
        local n = #fields
        fields[n + 1], fields[n + 2] = name, value
    end
end

-- When a run that begins now has to have ended: counted from its tick, if it is one that the clock has made due.
local function watch_deadline(c, run, plan, trigger, tick)
    local clock = trigger == 'schedule' or trigger == 'catchup'
    redis.call('ZADD', c.p .. 'late', (clock and tonumber(tick) or c.now) + plan.deadline * 1000, run)
end

-- Create a run and queue its roots; `born` other than queued only records it. The caller has seen that it is new, and
-- may give the same t again with another `run` and `params`.
local function create_run(c, plan, version, t)
    -- without what goes without saying, no tick and no task that is done: each field costs 0.3 us
    local fields = { 'graph', plan.graph, 'plan', version, 'state', t.born, 'trigger', t.trigger, 'created', c.stamp, 'ttl', t.ttl }
    if t.tick ~= NO_TICK then give(fields, 'tick', t.tick) end
    give(fields, 'params', t.params)
    give(fields, 'config', t.config)
    give(fields, 'reason', t.reason)
    give(fields, 'retry_of', t.retry_of or '')
    if t.failed_ttl ~= t.ttl then give(fields, 'failed_ttl', t.failed_ttl) end
    if t.params ~= '' or t.config ~= '' then give(fields, 'given', '1') end
    t.begun = t.begun or beginning(12, 'e', 'run', 'graph', plan.graph, 'plan', version, 'trigger', t.trigger,
        'tick', tonumber(t.tick), 'config', t.config, 'state', t.born, 'reason', t.reason, 'retry_of', t.retry_of or '')
    emit_rest(c, t.begun, 'run', t.run, 'params', t.params)
    if t.born ~= 'queued' then
        give(fields, 'ended', c.stamp)
        save(c, t.run, fields)
        redis.call('PEXPIRE', run_key(c, t.run), t.born == 'skipped' and t.ttl or t.failed_ttl)
        redis.call('PUBLISH', c.p .. 'ended:' .. t.run, t.born)
        if plan.calls and t.born == 'failed' then call_of_graph(c, t.run, plan, 'failure', t.born, t.reason, '') end
        return
    end
    c.uses[plan], c.created[t.run] = (c.uses[plan] or 0) + 1, #t.params + #t.config
    add(c.opened, plan.open, c.stamp, t.run)
    if plan.timeout > 0 then redis.call('ZADD', c.p .. 'deadlines', c.now + plan.timeout * 1000, t.run) end
    if plan.deadline > 0 then watch_deadline(c, t.run, plan, t.trigger, t.tick) end
    queue_ready(c, fields, t.run, plan, -1, 1)
    save(c, t.run, fields)
end

-- What finish and reap must know of an attempt: its run and its record, or nil when there is no such thing (any more).
-- `current` is false when the task has gone on to another attempt.
local function look_up(c, job)
    local run, index, attempt = split(job)
    if not run then return nil end
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'started', 'ttl', 'done', 'bad', index, 'pinned')
    local r = read_record(v[7])
    local plan = r and plan_of(c, v[1])
    if not plan then return nil end
    return {
        job = job, run = run, plan = plan, open = is_open(v[2]), started = v[3], ttl = tonumber(v[4]),
        done = tonumber(v[5]) or 0, bad = v[6], node = node_of(plan, tonumber(index)), r = r, current = r[ATTEMPT] == attempt,
        pinned = v[8],
    }
end

-- Save what became of a task, and close its run when that was the last one.
local function save_ended(c, a, fields)
    if a.done < a.plan.n then
        return redis.call('HSET', run_key(c, a.run), 'done', a.done, unpack(fields))
    end
    local state = a.bad and 'failed' or 'success'
    redis.call('HSET', run_key(c, a.run), 'state', state, 'ended', c.stamp, unpack(fields))
    close_run(c, a.run, a.plan, state, '', a.started, a.ttl)
end

local function tell(c, a, outcome, after, error, ms, due)
    local r, node = a.r, a.node
    if a.plan.of then return tell_of_callback(c, a, outcome, after, error, ms) end
    if outcome == 'success' and error == '' and due == -1 then
        local begun = node.succeeded or beginning(14, 'e', 'attempt', 'graph', a.plan.graph, 'node', node.index,
            'task', node.name, 'outcome', outcome, 'state', after, 'error', error, 'due', due)
        if node.kept then node.succeeded = begun end
        emit_rest(c, begun, 'run', a.run, 'attempt', r[ATTEMPT], 'worker', r[WORKER], 'claimed', r[CLAIMED], 'ms', ms)
    else
        emit_attempt(c, a.run, a.plan.graph, node.index, node.name, r[ATTEMPT], outcome, after, r[WORKER], r[CLAIMED], ms, error,
            due)
    end
    if node.calls then call_of_task(c, a, outcome, after, error, ms, due) end
end

local NOTHING = '\192' -- the message of a task that did not run: None

-- The last task of the graph gives the result of the run; when it did not run, that is None.
local function no_result(c, run, plan, node)
    if node.index == plan.n - 1 then redis.call('HSET', out_key(c, run), node.field, NOTHING) end
end

local fail -- below

local function succeed(c, a, value, ms)
    local r, node = a.r, a.node
    local stored = not a.plan.of and redis.pcall('HSET', out_key(c, a.run), node.field, value)
    if type(stored) == 'table' and stored.err then
        -- somebody has put something else in its place; to raise would keep the worker repeating this for ever
        local why = { type = 'MessageLost', message = 'its message cannot be stored: ' .. stored.err, traceback = '' }
        fail(c, a, 'failed', cmsgpack.pack(why), false, false, ms, 0)
        return
    end
    tell(c, a, 'success', 'success', '', ms, -1)
    r[STATE], r[AT] = 'success', c.now
    local fields = { node.field, packed_record(r) }
    a.done = a.done + 1
    if node.children[1] then queue_ready(c, fields, a.run, a.plan, node.index, 1, a.pinned) end
    save_ended(c, a, fields)
end

-- A parent ended without a message: whatever waits below it will never run, and says so now, as blocked or skipped.
-- `trail` holds the way down to where we are: node, position of the next child...  What there is no room for is left for later.
local function close_below(c, a, fields, trail, state, cause)
    local key, depth, seen = run_key(c, a.run), #trail, {}
    while depth > 0 do
        local child = node_of(a.plan, trail[depth - 1]).children[trail[depth]]
        if not child then
            trail[depth], trail[depth - 1] = nil, nil
            depth = depth - 2
        elseif c.room <= 0 then
            return defer(c, { 'block', a.run, cause, trail, state })
        else
            c.room = c.room - 1
            trail[depth] = trail[depth] + 1
            local below = node_of(a.plan, child)
            if not seen[child] and redis.call('HEXISTS', key, below.field) == 0 then
                seen[child] = true
                local n = #fields
                fields[n + 1], fields[n + 2] = below.field, packed_record(record(state, 0, c.now))
                a.done = a.done + 1
                if state == 'skipped' then no_result(c, a.run, a.plan, below) end
                emit_task(c, a.run, below, state, cause)
                trail[depth + 1], trail[depth + 2] = child, 1
                depth = depth + 2
            end
        end
    end
end

RESUME.block = function(c, work)
    local run = work[2]
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'started', 'ttl', 'done', 'bad')
    local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
    if not plan then return end
    local a = { run = run, plan = plan, started = v[3], ttl = tonumber(v[4]), done = tonumber(v[5]) or 0, bad = v[6] }
    local fields = {}
    close_below(c, a, fields, work[4], work[5] or 'blocked', work[3])
    save_ended(c, a, fields)
end

-- An attempt found that there was nothing to do: its task ends well, without a message. why: packed, as an error
local function skip(c, a, why, ms)
    local r, node = a.r, a.node
    tell(c, a, 'skipped', 'skipped', why, ms, -1)
    r[STATE], r[AT] = 'skipped', c.now
    local fields = { node.field, packed_record(r), 'e' .. node.field, why }
    a.done = a.done + 1
    no_result(c, a.run, a.plan, node)
    close_below(c, a, fields, { node.index, 1 }, 'skipped', 'parent ' .. node.name .. ' skipped')
    save_ended(c, a, fields)
end

local function retry_delay(node, retry, chance)
    if node.delay == 0 then return 0 end -- and never 0 times infinity
    local delay = node.delay * (1 + node.backoff) ^ retry
    if node.longest >= 0 and delay > node.longest then delay = node.longest end
    delay = delay * (1 + node.jitter * chance)
    if not (delay <= LONGEST_DELAY) then delay = LONGEST_DELAY end
    return math.floor(delay * 1000 + 0.5)
end

-- An attempt ended without success. Returns when its retry is due, or 1 when there is nothing to wait for.
-- again: may use a retry; charged: a loss that counts against the budget of losses.
function fail(c, a, outcome, error, again, charged, ms, chance)
    local r, node, state = a.r, a.node, outcome
    local fields = error ~= '' and { 'e' .. node.field, error } or {}
    -- a callback that ends its own process is not called again
    if outcome == 'lost' or (outcome == 'killed' and not a.plan.of) then
        if charged then r[LOSSES] = r[LOSSES] + 1 end
        if r[LOSSES] < MAX_LOSSES then
            tell(c, a, outcome, 'queued', error, ms, -1)
            r[ATTEMPT] = r[ATTEMPT] + 1
            enqueue(c, fields, a.run, node, r)
            save(c, a.run, fields)
            return 1
        end
        state = 'quarantined'
    else
        r[FAILS] = r[FAILS] + 1
        if again and r[FAILS] <= node.retries then
            local due = c.now + retry_delay(node, r[FAILS] - 1, chance)
            r[STATE], r[AT] = 'retrying', due
            fields[#fields + 1] = node.field
            fields[#fields + 1] = packed_record(r)
            save(c, a.run, fields)
            redis.call('ZADD', c.p .. 'retry', due, a.run .. '_' .. node.field .. '_' .. (r[ATTEMPT] + 1))
            tell(c, a, outcome, 'retrying', error, ms, due)
            return due
        end
    end
    tell(c, a, outcome, state, error, ms, -1)
    r[STATE], r[AT] = state, c.now
    local n = #fields
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = node.field, packed_record(r), 'bad', '1'
    a.done, a.bad = a.done + 1, true
    if a.plan.calls then redis.call('HSETNX', run_key(c, a.run), 'culprit', node.field) end
    close_below(c, a, fields, { node.index, 1 }, 'blocked', 'parent ' .. node.name .. ' ' .. state)
    save_ended(c, a, fields)
    return 1
end

-- Cancel the tasks of a run from node `from` on; its state says already that it is over.
local function stop_tasks(c, run, plan, state, reason, from, started, ttl)
    local fields, last, names = {}, math.min(from + c.room, plan.n) - 1, {}
    for index = from, last do names[#names + 1] = node_of(plan, index).field end
    local found = names[1] and redis.call('HMGET', run_key(c, run), unpack(names)) or {}
    for k = 1, #names do
        local node = node_of(plan, from + k - 1)
        local r = read_record(found[k]) or record('waiting', 0, c.now)
        local was, job = r[STATE], run .. '_' .. node.field .. '_' .. r[ATTEMPT]
        if was == 'queued' then
            unqueue(c, node.queue, job)
        elseif was == 'running' then
            c.released[#c.released + 1] = job
        elseif was == 'retrying' then
            redis.call('ZREM', c.p .. 'retry', run .. '_' .. node.field .. '_' .. (r[ATTEMPT] + 1))
        end
        if was == 'waiting' or was == 'queued' or was == 'running' or was == 'retrying' then
            r[STATE], r[AT] = 'cancelled', c.now
            fields[#fields + 1] = node.field
            fields[#fields + 1] = packed_record(r)
            if was == 'running' then -- nobody will report this attempt any more
                emit(c, 'e', 'task', 'run', run, 'node', node.index, 'task', node.name, 'state', 'cancelled', 'reason', reason,
                    'attempt', r[ATTEMPT], 'claimed', r[CLAIMED])
            else
                emit_task(c, run, node, 'cancelled', reason)
            end
            if node.calls and (was == 'running' or was == 'retrying') then
                call_of_task(c, { run = run, plan = plan, node = node, r = r }, '', 'cancelled', '', -1, -1, reason)
            end
        end
    end
    c.room = c.room - #names
    if last < plan.n - 1 then
        save(c, run, fields)
        return defer(c, { 'stop', run, last + 1 })
    end
    fields[#fields + 1] = 'ended'
    fields[#fields + 1] = c.stamp
    save(c, run, fields)
    close_run(c, run, plan, state, reason, started, ttl)
end

RESUME.stop = function(c, work)
    local run = work[2]
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'reason', 'started', 'ttl', 'ended')
    local plan = v[1] and not v[6] and plan_of(c, v[1])
    if plan then stop_tasks(c, run, plan, v[2], v[3] or '', work[3], v[4], tonumber(v[5])) end
end

-- End an open run from outside: what waits is dropped, what runs learns of it at its next heartbeat.
local function cancel_run(c, run, state, reason)
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'started', 'ttl')
    local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
    if not plan then return false end
    -- from here on nobody may claim or report, however long the tasks take
    save(c, run, { 'state', state, 'reason', reason })
    stop_tasks(c, run, plan, state, reason, 0, v[3], tonumber(v[4]))
    return true
end

-- An attempt is among those to be dealt with, and there is no record of it that can be read. If its run is open, it
-- ends here and says so: somebody has damaged it, and nothing would ever move it on.
local function bury(c, job)
    local run, index = split(job)
    local packed = run and redis.pcall('HGET', run_key(c, run), index)
    if type(packed) ~= 'string' or read_record(packed) then return end -- there never was such an attempt
    cancel_run(c, run, 'failed', 'damaged: the record of task ' .. index .. ' on the server cannot be read')
end

-- End many runs, as far as there is room now.
local function cancel_runs(c, runs, state, reason)
    for k = 1, #runs do
        if c.room <= 0 then
            for first = k, #runs, ROOM do
                defer(c, { 'cancel', state, reason, { unpack(runs, first, math.min(first + ROOM - 1, #runs)) } })
            end
            return
        end
        cancel_run(c, runs[k], state, reason)
    end
end

RESUME.cancel = function(c, work) cancel_runs(c, work[4], work[2], work[3]) end
