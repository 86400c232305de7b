-- What the functions share: the names of all keys, plans and node records, and the few moves a run is made of.
-- Redis does not roll a script back. So every function first reads and decides, and writes only what cannot fail.
--
-- c, "context": { p = prefix, rq = prefix of RQ queue names, now = ms }, made once per call by `context`.

local MAX_LOSSES = 3
local LONGEST_DELAY = 30 * 86400 -- seconds; as tm.retry.LONGEST_DELAY
local UNPACKABLE = 4000 -- arguments that fit on Lua's stack in one call
local MOST_CLAIMS = 256 -- that one call hands out

-- cmsgpack does not exist yet while the library is loaded, only when its functions are called
local function pack(value) return cmsgpack.pack(value) end
local function unpack_message(bytes) return cmsgpack.unpack(bytes) end

-- A number that came as an argument. Called before the first write, so that bad arguments change nothing.
local function number(text, what, least)
    local value = tonumber(text)
    if not value or value ~= value or (least and value < least) then
        error({ err = 'ERR ' .. what .. ' is not a good number: ' .. tostring(text) })
    end
    return value
end

-- The limit of a sweep: it never becomes "all".
local function limit_of(text) return math.min(math.floor(number(text, 'limit', 0)), 1000) end

local function context(keys)
    local namespace = string.match(keys[1], '^tm:(.*):$')
    local own = namespace == 'default'
    return {
        p = keys[1], now = server_now(),
        rq = own and '' or namespace .. '.',
        bell = own and '' or string.gsub(namespace, '[^%w-]', '_') .. '__', -- RQ allows letters, digits, _ and - here
    }
end

-- Keys ------------------------------------------------------------------------------------------------------------

local function run_key(c, run) return c.p .. 'run:' .. run end
local function out_key(c, run) return c.p .. 'out:' .. run end
local function open_key(c, graph) return c.p .. 'open:' .. graph end
local function queued_key(c, queue) return c.p .. 'queued:' .. queue end
local function bell_key(c, queue) return 'rq:queue:' .. c.rq .. queue end
-- What RQ calls an attempt. Runs of the same tick have the same id in every namespace, RQ knows no namespaces.
local function bell_of(c, job) return c.bell .. job end
local function rq_job_key(c, job) return 'rq:job:' .. c.bell .. job end

-- The attempt a bell rings for.
local function job_of(c, bell)
    if c.bell ~= '' and string.sub(bell, 1, #c.bell) == c.bell then return string.sub(bell, #c.bell + 1) end
    return bell
end

local function split(job)
    local run, node, attempt = string.match(job, '^(.+)_(%d+)_([1-9]%d*)$')
    return run, node, tonumber(attempt)
end

-- Plans: immutable, so what was read once is kept for as long as the server lives ------------------------------------

local plans, plan_count = {}, 0

local function plan_of(c, version)
    local key = c.p .. 'plan:' .. version
    local plan = plans[key]
    if plan then return plan end
    local head = redis.pcall('HMGET', key, 'graph', 'n', 'timeout', 'roots')
    if not head[1] then return nil end
    if plan_count >= 512 then plans, plan_count = {}, 0 end
    plan = {
        key = key, graph = head[1], n = tonumber(head[2]), timeout = tonumber(head[3]),
        roots = unpack_message(head[4]), nodes = {},
    }
    plans[key], plan_count = plan, plan_count + 1
    return plan
end

-- For what starts runs: also sees that the plan is still there. A server may be emptied under a memory that is not.
local function plan_for_start(c, version)
    local key = c.p .. 'plan:' .. version
    if redis.call('EXISTS', key) == 1 then return plan_of(c, version) end
    plans[key] = nil
    return nil
end

-- Never fails, for it is called between writes: a node that somebody deleted has a name no worker knows.
local function node_of(plan, index)
    index = tonumber(index)
    local node = plan.nodes[index]
    if node then return node end
    local packed = redis.pcall('HGET', plan.key, index)
    local t = type(packed) == 'string' and unpack_message(packed)
        or { '', 'default', {}, {}, 0, 0, 0, -1, 0, -1 }
    node = {
        index = index, name = t[1], queue = t[2], parents = t[3], children = t[4], retries = t[5], delay = t[6],
        backoff = t[7], longest = t[8], jitter = t[9], timeout = t[10],
    }
    plan.nodes[index] = node
    return node
end

-- Node records: the state of one task of one run -----------------------------------------------------------------------

local STATE, ATTEMPT, TOKEN, FAILS, LOSSES, CLAIMED, WORKER, AT = 1, 2, 3, 4, 5, 6, 7, 8
-- AT: when it was queued, when its retry is due, or when it ended

-- The record in these bytes; nil when they are none. One damaged run must not stop a sweep over all.
local function read_record(packed)
    if type(packed) ~= 'string' then return nil end
    local good, r = pcall(cmsgpack.unpack, packed)
    if good and type(r) == 'table' and #r == AT then return r end
    return nil
end

local function record(state, attempt, at)
    return { state, attempt, '', 0, 0, 0, '', at }
end

local function save(c, run, node, r)
    redis.call('HSET', run_key(c, run), node, pack(r))
end

-- Events for history ------------------------------------------------------------------------------------------------

local function emit(c, event)
    event.at = c.now
    redis.call('XADD', c.p .. 'events', '*', 'd', pack(event))
end

-- RQ: a queued attempt is an RQ job, its list entry a doorbell -------------------------------------------------------

local stamp_second, stamp_text = -1, ''

-- RQ's time format, e.g. 2026-11-24T03:39:00.123000Z; the days are counted as in the civil calendar from 1 March
local function rq_time(ms)
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

local FOUR_ITEMS, NIL, EMPTY_MAP = '\148', '\192', '\128'
local RQ_FUNCTION = '\185tm_worker.process.perform' -- a msgpack string of 25 bytes

-- What others may write to as well, all of `rq:`, is written with pcall: trouble there costs a bell, never the truth.
local function ring_bell(c, queue, job)
    if redis.pcall('RPUSH', bell_key(c, queue), bell_of(c, job)) == 1 then
        redis.pcall('SADD', 'rq:queues', bell_key(c, queue))
    end
end

-- Queue attempt r[ATTEMPT] of a node; the caller has set the record's counters.
local function enqueue(c, run, plan, node, r)
    local job = run .. '_' .. node.index .. '_' .. r[ATTEMPT]
    r[STATE], r[TOKEN], r[CLAIMED], r[WORKER], r[AT] = 'queued', '', 0, '', c.now
    save(c, run, node.index, r)
    local time = rq_time(c.now)
    redis.pcall('HSET', rq_job_key(c, job), 'created_at', time, 'enqueued_at', time, 'status', 'queued',
        'origin', c.rq .. node.queue, 'description', plan.graph .. '.' .. node.name,
        'data', FOUR_ITEMS .. RQ_FUNCTION .. NIL .. pack({ run, node.index, r[ATTEMPT] }) .. EMPTY_MAP)
    redis.call('ZADD', queued_key(c, node.queue), c.now, job)
    ring_bell(c, node.queue, job)
end

local function unqueue(c, queue, job)
    redis.call('ZREM', queued_key(c, queue), job)
    redis.call('DEL', rq_job_key(c, job))
end

-- Runs ----------------------------------------------------------------------------------------------------------------

local function close_run(c, run, graph, state, reason, started, ttl)
    local key = run_key(c, run)
    redis.call('HSET', key, 'state', state, 'ended', c.now, 'reason', reason)
    redis.call('ZREM', open_key(c, graph), run)
    redis.call('ZREM', c.p .. 'deadlines', run)
    redis.call('PEXPIRE', key, ttl)
    redis.call('PEXPIRE', out_key(c, run), ttl)
    emit(c, { e = 'end', run = run, graph = graph, state = state, reason = reason, started = tonumber(started) or -1 })
    redis.call('PUBLISH', c.p .. 'ended:' .. run, state)
end

-- Create a run and queue its roots; `born` other than queued only records it. The caller has seen that it is new.
local function create_run(c, plan, version, t)
    local key = run_key(c, t.run)
    local open = t.born == 'queued'
    redis.call('HSET', key, 'graph', plan.graph, 'plan', version, 'state', t.born, 'trigger', t.trigger, 'tick', t.tick,
        'params', t.params, 'config', t.config, 'created', c.now, 'started', '', 'done', 0, 'reason', t.reason, 'ttl', t.ttl)
    emit(c, { e = 'run', run = t.run, graph = plan.graph, plan = version, trigger = t.trigger, tick = t.tick,
        params = t.params, config = t.config, state = t.born, reason = t.reason })
    if not open then
        redis.call('HSET', key, 'ended', c.now)
        redis.call('PEXPIRE', key, t.ttl)
        redis.call('PUBLISH', c.p .. 'ended:' .. t.run, t.born)
        return
    end
    redis.call('ZADD', open_key(c, plan.graph), c.now, t.run)
    if plan.timeout > 0 then redis.call('ZADD', c.p .. 'deadlines', c.now + plan.timeout * 1000, t.run) end
    for _, root in ipairs(plan.roots) do
        enqueue(c, t.run, plan, node_of(plan, root), record('queued', 1, c.now))
    end
end

-- What finish and reap must know of an attempt: its run and its record, or nil when there is no such thing (any more).
-- `current` is false when the task has gone on to another attempt.
local function look_up(c, job)
    local run, index, attempt = split(job)
    if not run then return nil end
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'graph', 'state', 'started', 'ttl', index)
    local r = read_record(v[6])
    local plan = r and plan_of(c, v[1])
    if not plan then return nil end
    return {
        job = job, run = run, plan = plan, graph = v[2], run_state = v[3], started = v[4], ttl = tonumber(v[5]),
        node = node_of(plan, index), r = r, current = r[ATTEMPT] == attempt,
    }
end

-- Mark a node as ended in `state`. Returns how many nodes of the run have ended so far.
local function end_node(c, a, state)
    a.r[STATE], a.r[AT] = state, c.now
    save(c, a.run, a.node.index, a.r)
    return redis.call('HINCRBY', run_key(c, a.run), 'done', 1)
end

-- A parent failed for good: whatever waits below it will never run, and says so now.
local function block_below(c, a, done)
    local key, cause = run_key(c, a.run), 'parent ' .. a.node.name .. ' ' .. a.r[STATE]
    redis.call('HSET', key, 'bad', 1)
    local pending = { a.node }
    while #pending > 0 do
        local node = table.remove(pending)
        for _, child in ipairs(node.children) do
            if redis.call('HEXISTS', key, child) == 0 then
                local below = node_of(a.plan, child)
                save(c, a.run, child, record('blocked', 0, c.now))
                done = redis.call('HINCRBY', key, 'done', 1)
                emit(c, { e = 'task', run = a.run, node = child, task = below.name, state = 'blocked', reason = cause })
                pending[#pending + 1] = below
            end
        end
    end
    return done
end

local function close_if_done(c, a, done)
    if done < a.plan.n then return end
    local bad = redis.call('HGET', run_key(c, a.run), 'bad')
    close_run(c, a.run, a.graph, bad and 'failed' or 'success', '', a.started, a.ttl)
end

local function emit_attempt(c, a, outcome, after, error, ms, due)
    emit(c, { e = 'attempt', run = a.run, graph = a.graph, node = a.node.index, task = a.node.name, attempt = a.r[ATTEMPT],
        outcome = outcome, state = after, worker = a.r[WORKER], claimed = a.r[CLAIMED], ms = ms, error = error, due = due })
end

local function retry_delay(node, retry, chance)
    if node.delay == 0 then return 0 end -- and never 0 times infinity
    local delay = node.delay * (1 + node.backoff) ^ retry
    if delay ~= delay then delay = math.huge end -- 0 * inf
    if node.longest >= 0 and delay > node.longest then delay = node.longest end
    delay = delay * (1 + node.jitter * chance)
    if not (delay <= LONGEST_DELAY) then delay = LONGEST_DELAY end
    return math.floor(delay * 1000 + 0.5)
end

local function succeed(c, a, value, ms)
    redis.call('HSET', out_key(c, a.run), a.node.index, value)
    local done = end_node(c, a, 'success')
    emit_attempt(c, a, 'success', 'success', '', ms, -1)
    for _, child in ipairs(a.node.children) do
        local below = node_of(a.plan, child)
        local parents = #below.parents
        if parents == 1 or redis.call('HINCRBY', run_key(c, a.run), 'w' .. child, 1) == parents then
            enqueue(c, a.run, a.plan, below, record('queued', 1, c.now))
        end
    end
    close_if_done(c, a, done)
end

-- An attempt ended without success. Returns when its retry is due, or 1 when there is nothing to wait for.
-- again: may use a retry; charged: a loss that counts against the budget of losses.
local function fail(c, a, outcome, error, again, charged, ms, chance)
    local r, node = a.r, a.node
    if error ~= '' then redis.call('HSET', run_key(c, a.run), 'e' .. node.index, error) end
    if outcome == 'lost' or outcome == 'killed' then
        if charged then r[LOSSES] = r[LOSSES] + 1 end
        if r[LOSSES] < MAX_LOSSES then
            emit_attempt(c, a, outcome, 'queued', error, ms, -1)
            r[ATTEMPT] = r[ATTEMPT] + 1
            enqueue(c, a.run, a.plan, node, r)
            return 1
        end
        local done = end_node(c, a, 'quarantined')
        emit_attempt(c, a, outcome, 'quarantined', error, ms, -1)
        close_if_done(c, a, block_below(c, a, done))
        return 1
    end
    r[FAILS] = r[FAILS] + 1
    if again and r[FAILS] <= node.retries then
        local due = c.now + retry_delay(node, r[FAILS] - 1, chance)
        r[STATE], r[AT] = 'retrying', due
        save(c, a.run, node.index, r)
        redis.call('ZADD', c.p .. 'retry', due, a.run .. '_' .. node.index .. '_' .. (r[ATTEMPT] + 1))
        emit_attempt(c, a, outcome, 'retrying', error, ms, due)
        return due
    end
    local done = end_node(c, a, outcome)
    emit_attempt(c, a, outcome, outcome, error, ms, -1)
    close_if_done(c, a, block_below(c, a, done))
    return 1
end

-- End an open run from outside: what waits is dropped, what runs learns of it at its next heartbeat.
local function cancel_run(c, run, state, reason)
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'graph', 'state', 'started', 'ttl')
    local plan = v[1] and plan_of(c, v[1])
    if not plan or (v[3] ~= 'queued' and v[3] ~= 'running') then return false end
    for index = 0, plan.n - 1 do
        local packed = redis.call('HGET', run_key(c, run), index)
        local node = node_of(plan, index)
        local r = read_record(packed) or record('waiting', 0, c.now)
        local was = r[STATE]
        local job = run .. '_' .. index .. '_' .. r[ATTEMPT]
        if was == 'queued' then
            unqueue(c, node.queue, job)
        elseif was == 'running' then
            redis.call('ZREM', c.p .. 'leases', job)
        elseif was == 'retrying' then
            redis.call('ZREM', c.p .. 'retry', run .. '_' .. index .. '_' .. (r[ATTEMPT] + 1))
        end
        if was == 'waiting' or was == 'queued' or was == 'running' or was == 'retrying' then
            r[STATE], r[AT] = 'cancelled', c.now
            save(c, run, index, r)
            emit(c, { e = 'task', run = run, node = index, task = node.name, state = 'cancelled', reason = reason })
        end
    end
    close_run(c, run, v[2], state, reason, v[4], tonumber(v[5]))
    return true
end

-- Work ------------------------------------------------------------------------------------------------------------------

local function values_of(c, run, plan, node)
    local inputs, keys = {}, node.parents
    for first = 1, #keys, UNPACKABLE do
        local last = math.min(first + UNPACKABLE - 1, #keys)
        local values = redis.call('HMGET', out_key(c, run), unpack(keys, first, last))
        for k = 1, #values do
            inputs[#inputs + 1] = node_of(plan, keys[first + k - 1]).name
            inputs[#inputs + 1] = values[k]
        end
    end
    return inputs
end

local function claim_reply(c, job, run, plan, version, node, r, v)
    local root = #node.parents == 0
    return {
        job, r[TOKEN], run, plan.graph, version, node.name, r[ATTEMPT], r[CLAIMED], tostring(node.timeout), v.tick,
        root and v.params or '', root and v.config or '', values_of(c, run, plan, node),
    }
end

-- Try to claim one attempt for ask.worker. Returns its reply; or nil, and whether the attempt was put back because
-- this worker has not loaded its graph. A doorbell for something that is not queued is simply dropped.
local function claim(c, ask, job, ordinal)
    local run, index, attempt = split(job)
    if not run then return nil, false end -- somebody else's
    local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'tick', 'params', 'config', index)
    local r = read_record(v[6])
    local plan = r and plan_of(c, v[1])
    if not plan or r[STATE] ~= 'queued' or r[ATTEMPT] ~= attempt then
        redis.call('DEL', rq_job_key(c, job))
        return nil, false
    end
    local node = node_of(plan, index)
    local offered = ask.offers[plan.graph]
    if offered == nil then
        offered = redis.call('SISMEMBER', c.p .. 'offers:' .. ask.worker, plan.graph) == 1
        ask.offers[plan.graph] = offered
    end
    if not offered then
        redis.call('ZADD', queued_key(c, node.queue), c.now, job)
        ring_bell(c, node.queue, job)
        return nil, true
    end
    r[STATE], r[TOKEN], r[CLAIMED], r[WORKER] = 'running', ask.token .. '.' .. ordinal, c.now, ask.worker
    if v[2] == 'queued' then
        redis.call('HSET', run_key(c, run), index, pack(r), 'state', 'running', 'started', c.now)
    else
        save(c, run, index, r)
    end
    redis.call('ZADD', c.p .. 'leases', c.now + ask.lease, job)
    unqueue(c, node.queue, job)
    return claim_reply(c, job, run, plan, v[1], node, r, { tick = v[3], params = v[4], config = v[5] })
end

-- The same ask came again because its reply was lost: answer what it was given then.
local function claimed_before(c, ask)
    local found = {}
    for _, job in ipairs(redis.call('ZRANGE', c.p .. 'leases', 0, -1)) do
        local run, index = split(job)
        local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'tick', 'params', 'config', index)
        local r = read_record(v[6])
        local plan = r and plan_of(c, v[1])
        if plan and r[STATE] == 'running' and r[WORKER] == ask.worker
            and string.sub(r[TOKEN], 1, #ask.token + 1) == ask.token .. '.' then
            found[#found + 1] = claim_reply(c, job, run, plan, v[1], node_of(plan, index), r,
                { tick = v[3], params = v[4], config = v[5] })
        end
    end
    return found
end

-- ARGV of an ask, from position k: worker, lease ms, token, again, state, count, bell, number of queues, queues...
-- Returns the ask and the position after it.
local function read_ask(args, k)
    local ask = {
        worker = args[k], lease = number(args[k + 1], 'lease', 1), token = args[k + 2], again = args[k + 3] == '1',
        state = args[k + 4], count = math.min(number(args[k + 5], 'count', 0), MOST_CLAIMS), bell = args[k + 6],
        queues = {}, offers = {},
    }
    if ask.token == '' then error({ err = 'ERR an ask needs a token' }) end
    local n = number(args[k + 7], 'number of queues', 0)
    for j = 1, n do ask.queues[j] = args[k + 7 + j] end
    return ask, k + 8 + n
end

-- Put a bell back at the head of its queue. Returns 1, or 0 when it was for nothing.
local function hand_back(c, bell)
    local job = job_of(c, bell)
    local a = bell ~= '' and look_up(c, job)
    if not a or not a.current or a.r[STATE] ~= 'queued' then return 0 end
    redis.pcall('LPUSH', bell_key(c, a.node.queue), bell_of(c, job))
    redis.pcall('SADD', 'rq:queues', bell_key(c, a.node.queue))
    return 1
end

-- Hand out up to ask.count attempts, queues in strict order. Returns { suspended, passed, claims }.
local function grant(c, ask)
    local claims, passed, popped = {}, 0, 0
    if ask.state ~= '' then
        local about = 'rq:worker:' .. ask.worker
        -- a worker that RQ has forgotten must not leave half an entry that never expires
        if redis.call('EXISTS', about) == 1 then redis.pcall('HSET', about, 'state', ask.state) end
    end
    if ask.again then
        claims = claimed_before(c, ask)
        if #claims > 0 then return { 0, 0, claims } end
    end
    if ask.count > 0 or ask.bell ~= '' then
        if redis.call('EXISTS', 'rq:suspended') == 1 then
            hand_back(c, ask.bell)
            return { 1, 0, claims }
        end
        if ask.bell ~= '' then
            local claimed, back = claim(c, ask, job_of(c, ask.bell), 0)
            if claimed then claims[1] = claimed end
            if back then passed = passed + 1 end
        end
        for _, queue in ipairs(ask.queues) do
            while #claims < ask.count and passed < 16 and popped < MOST_CLAIMS do
                local bell = redis.pcall('LPOP', bell_key(c, queue))
                if type(bell) ~= 'string' then break end
                popped = popped + 1
                local claimed, back = claim(c, ask, job_of(c, bell), #claims + 1)
                if claimed then claims[#claims + 1] = claimed end
                if back then passed = passed + 1 end
            end
        end
    end
    return { 0, passed, claims }
end
