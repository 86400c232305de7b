-- Work: asks of workers, and the claims they are given.

-- The messages of a node's parents: name, value...  Or nil and the name of the parent whose message is gone.
local function values_of(c, run, plan, node)
    if plan.of then return callback_inputs(c, run, plan) end
    local inputs, parents = {}, node.parents
    for first = 1, #parents, UNPACKABLE do
        local last = math.min(first + UNPACKABLE - 1, #parents)
        local values = redis.pcall('HMGET', out_key(c, run), unpack(parents, first, last))
        local names = last - first > FEW and names_of(plan, parents, first, last)
        for k = 1, last - first + 1 do
            local name, value = names and names[k] or node_of(plan, parents[first + k - 1]).name, values[k]
            if not value then return nil, name end
            inputs[#inputs + 1] = name
            inputs[#inputs + 1] = value
        end
    end
    return inputs
end

-- What a worker is told of its claim. v: tick, whether there are params or a config
local function claim_reply(c, job, run, plan, version, node, r, tick, given, inputs)
    local params, config = '', ''
    if given and not node.parents[1] then
        local v = redis.call('HMGET', run_key(c, run), 'params', 'config')
        params, config = v[1] or '', v[2] or ''
    end
    local ends = plan.timeout > 0 and redis.call('ZSCORE', c.p .. 'deadlines', run) or ''
    return {
        job, r[TOKEN], run, plan.graph, plan.version or version, node.called or node.name, r[ATTEMPT], r[CLAIMED], node.timeout, tick,
        params, config, inputs, ends,
    }
end

-- Somebody deleted the message of a parent: no attempt can run, and to try again would not help.
local function fail_without_message(c, job, parent, ask, ordinal)
    local a = look_up(c, job)
    unqueue(c, a.node.queue, job)
    a.r[TOKEN], a.r[CLAIMED], a.r[WORKER] = ask.token .. '.' .. ordinal, c.now, ask.worker
    local why = { type = 'MessageLost', message = 'the message of ' .. parent .. ' is no longer on the server', traceback = '' }
    fail(c, a, 'failed', cmsgpack.pack(why), false, false, 0, 0)
end

-- Whether the worker that asks has loaded a task.
local function is_offered(c, ask, node)
    local wanted = wanted_of(node)
    local offered = ask.offers[wanted]
    if offered == nil then
        -- has it this task, or the graph and does not say which tasks of it?
        local has = redis.pcall('SMISMEMBER', c.p .. 'offers:' .. ask.worker, wanted, node.graph, node.graph .. '/')
        offered = has[1] == 1 or (has[2] == 1 and has[3] == 0)
        ask.offers[wanted] = offered
    end
    return offered
end

-- Try to claim one attempt for ask.worker. Returns its reply; or nil, and whether the attempt was put back because
-- this worker has not loaded its task. A doorbell for something that is not queued is simply dropped.
local function claim(c, ask, job, ordinal)
    local run, index, attempt = split(job)
    if not run then return nil, false end -- somebody else's
    local key = run_key(c, run)
    local v = redis.pcall('HMGET', key, 'plan', 'state', 'tick', 'given', index)
    local r = read_record(v[5])
    local plan = r and plan_of(c, v[1])
    if not plan or r[STATE] ~= 'queued' or r[ATTEMPT] ~= attempt or not is_open(v[2]) then
        c.gone[#c.gone + 1] = rq_job_key(c, job)
        return nil, false
    end
    local node = node_of(plan, tonumber(index))
    if not is_offered(c, ask, node) then
        -- to the end of the queue, and not before this call is over
        if not c.waiting[job] then add(c.queued, node.queue, c.stamp, job) end
        add(c.bells, node.queue, bell_of(c, job))
        return nil, true
    end
    local inputs, missing = values_of(c, run, plan, node)
    if not inputs then
        fail_without_message(c, job, missing, ask, ordinal)
        return nil, false
    end
    r[STATE], r[TOKEN], r[CLAIMED], r[WORKER] = 'running', ask.token .. '.' .. ordinal, c.now, ask.worker
    if v[2] == 'queued' then
        redis.call('HSET', key, node.field, packed_record(r), 'state', 'running', 'started', c.stamp)
    else
        redis.call('HSET', key, node.field, packed_record(r))
    end
    local n = #c.leased
    c.leased[n + 1], c.leased[n + 2] = ask.deadline, job
    unqueue(c, node.queue, job)
    return claim_reply(c, job, run, plan, v[1], node, r, v[3] or NO_TICK, v[4], inputs)
end

-- What each worker was given by its last two asks: prefix and worker -> { token, jobs, token before, jobs }. Only for the
-- case that a reply gets lost, so it may be forgotten, as it is when the server starts; then the leases are searched.
local given_last, given_count = {}, 0
local MOST_SEARCHED = 2000 -- leases, those that run longest: about 5 ms

local function remember(c, ask, claims)
    local key, jobs = c.p .. ask.worker, {}
    for k = 1, #claims do jobs[k] = claims[k][1] end
    local last = given_last[key]
    if not last then
        if given_count >= 4096 then given_last, given_count = {}, 0 end
        given_count = given_count + 1
        given_last[key] = { ask.token, jobs }
    elseif last[1] == ask.token then
        last[2] = jobs
    else
        last[1], last[2], last[3], last[4] = ask.token, jobs, last[1], last[2]
    end
end

local function perhaps_given(c, ask)
    if ask.mine then return redis.call('ZRANGE', c.leases, 0, MOST_SEARCHED - 1) end -- what is not beaten for lapses first
    local last = given_last[c.p .. ask.worker]
    if not last then return redis.call('ZREVRANGE', c.p .. 'leases', 0, MOST_SEARCHED - 1) end
    return last[1] == ask.token and last[2] or last[3] == ask.token and last[4] or {}
end

-- Whether an attempt was given to the ask that is repeated; or handed over, if it asks for all of that. Each comes again in
-- one of these ways only: what was handed over after an ask may have run before that ask is repeated.
local function is_meant(ask, token)
    local handed = (tonumber(string.match(token, '%.(%d+)$')) or 0) > MOST_BELLS
    if ask.mine then return handed end
    return not handed and string.sub(token, 1, #ask.token + 1) == ask.token .. '.'
end

-- The same ask came again because its reply was lost: answer what it was given then. Or all that was handed over to a worker.
local function claimed_before(c, ask)
    local found = {}
    for _, job in ipairs(perhaps_given(c, ask)) do
        local run, index = split(job)
        local v = run and redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'tick', 'given', index) or {}
        local r = read_record(v[5])
        local plan = r and plan_of(c, v[1])
        if plan and is_open(v[2]) and r[STATE] == 'running' and r[WORKER] == ask.worker
            and is_meant(ask, r[TOKEN]) then
            local node = node_of(plan, tonumber(index))
            local inputs = values_of(c, run, plan, node)
            if inputs then found[#found + 1] = claim_reply(c, job, run, plan, v[1], node, r, v[3] or NO_TICK, v[4], inputs) end
        end
    end
    return found
end

-- ARGV of an ask, from position k: worker, lease ms, token, again, state, count, bell, ear, attempts that were heard there,
-- number of queues, queues...
-- again: 1 repeats an ask, 2 asks for all that was handed over to this worker and is running, as far as that is found.
-- ear: where the worker listens for what is handed over to it (_handing.lua); empty when it does not.
-- Returns the ask and the position after it.
local function read_ask(c, args, k)
    local ask = {
        worker = args[k], lease = number(args[k + 1], 'lease', 1), token = args[k + 2],
        again = args[k + 3] ~= '0', mine = args[k + 3] == '2', state = args[k + 4], count = math.min(math.floor(number(args[k + 5], 'count', 0)), MOST_CLAIMS),
        bell = args[k + 6], ear = args[k + 7], heard = number(args[k + 8], 'count of attempts heard', 0), queues = {}, offers = {},
    }
    ask.deadline = string.format('%.0f', c.now + ask.lease)
    if ask.token == '' then error({ err = 'ERR an ask needs a token' }) end
    local n = number(args[k + 9], 'number of queues', 0)
    for j = 1, n do ask.queues[j] = args[k + 9 + j] end
    return ask, k + 10 + n
end

-- Put a bell back at the head of its queue. Returns 1, or 0 when it was for nothing.
local function hand_back(c, bell)
    local job = job_of(c, bell)
    local a = bell ~= '' and look_up(c, job)
    if not a or not a.current or not a.open or a.r[STATE] ~= 'queued' then return 0 end
    redis.pcall('LPUSH', bell_key(c, a.node.queue), bell_of(c, job))
    redis.pcall('SADD', 'rq:queues', bell_key(c, a.node.queue))
    return 1
end

-- A deep queue is not worked off by age alone: one bell in four is the newest, so a small run that came behind a wide one
-- does not wait for all of it. The other three are the oldest, so nothing waits for ever. Callbacks keep their order.
local BY_AGE = 100 -- bells; what is no deeper is worked off by age
local ONE_IN = 4
local turns, turn_count = {}, 0 -- key of a queue -> bells popped since the newest had its turn; may be forgotten

-- The next of what this call has queued itself, as if it had been rung and popped again; a hop of a chain saves both.
local function own_bells(c, queue, count)
    local own = c.own[queue]
    if not own then return nil end
    c.own[queue] = nil
    if #own <= count then return own end
    local bells, rest = {}, {}
    for k = 1, #own do
        if k <= count then bells[k] = own[k] else rest[k - count] = own[k] end
    end
    c.own[queue] = rest
    return bells
end

local function pop_bells(c, queue, count)
    local key = bell_key(c, queue)
    if queue == CALLBACK_QUEUE then return redis.pcall('LPOP', key, count) or own_bells(c, queue, count) end
    local turn = turns[key]
    if not turn then
        if turn_count >= 1024 then turns, turn_count = {}, 0 end
        turn, turn_count = 0, turn_count + 1
    end
    turn = turn + count
    local newest = math.floor(turn / ONE_IN)
    turns[key] = turn - newest * ONE_IN
    if newest > 0 then
        local depth = redis.pcall('LLEN', key)
        if type(depth) ~= 'number' or depth <= BY_AGE then newest = 0 end
    end
    if newest == 0 then
        return redis.pcall('LPOP', key, count) or own_bells(c, queue, count)
    end
    ring_at_end(c, c.own)
    c.own = {}
    local bells = newest < count and redis.pcall('LPOP', key, count - newest) or {}
    local last = redis.pcall('RPOP', key, newest)
    c.newest = true
    if last and not last.err then
        for k = 1, #last do bells[#bells + 1] = last[k] end
    end
    return bells
end

-- Go on with what earlier calls left for later.
local function go_on(c)
    if backlogged[c.p] == false then return end
    c.room = math.max(c.room, ROOM / 4)
    drain(c)
end

-- Whether something is left for later, and the queues have enough without it: a wide run that is still being queued would
-- push its tasks in between the newest bells and those who are about to be given them.
-- Of paused queues nothing is handed out, so what they hold does not count.
local function is_deep(c, ask)
    if backlogged[c.p] == false or ask.count == 0 then return false end
    local bells, paused = 0, paused_queues(c)
    for _, queue in ipairs(ask.queues) do
        local depth = not paused[queue] and redis.pcall('LLEN', bell_key(c, queue))
        if type(depth) == 'number' then bells = bells + depth end
    end
    return bells > BY_AGE + ask.count
end

local NONE = {}

-- The queues that are paused, as queue -> true; nil when RQ is suspended.
local function suspended_or_paused(c)
    if redis.call('EXISTS', 'rq:suspended', paused_queues_key(c)) == 0 then return NONE end
    if redis.call('EXISTS', 'rq:suspended') == 1 then return nil end
    return paused_queues(c)
end

local attend, await -- in _handing.lua

-- Hand out up to ask.count attempts, queues in strict order, each by age as far as it is not deep.
-- Returns { suspended, passed, claims, the asked queues that are paused }; without the last when none is.
local function grant(c, ask)
    local claims, passed, popped, ear = {}, 0, 0, attend(c, ask)
    local behind = is_deep(c, ask) -- then what waits to be queued comes after the newest was handed out, not before
    if not behind then go_on(c) end
    if ask.state ~= '' then
        local about = 'rq:worker:' .. ask.worker
        -- a worker that RQ has forgotten must not leave half an entry that never expires
        if redis.call('EXISTS', about) == 1 then redis.pcall('HSET', about, 'state', ask.state) end
    end
    if ask.again then
        claims = claimed_before(c, ask)
        if #claims > 0 or ask.mine then return { 0, 0, claims } end
    end
    if ask.count == 0 and ask.bell == '' then return { 0, 0, claims } end
    local paused, told = suspended_or_paused(c), nil
    if not paused then
        hand_back(c, ask.bell)
        return { 1, 0, claims }
    end
    if paused ~= NONE then
        told = {}
        for _, queue in ipairs(ask.queues) do
            if paused[queue] then told[#told + 1] = queue end
        end
    end
    if told and ask.bell ~= '' then
        local a = look_up(c, job_of(c, ask.bell))
        if a and paused[a.node.queue] then
            hand_back(c, ask.bell)
            ask.bell = ''
        end
    end
    if ask.bell ~= '' then
        local claimed, back = claim(c, ask, job_of(c, ask.bell), 0)
        if claimed then claims[1] = claimed end
        if back then passed = passed + 1 end
    end
    if next(c.first) then ring_bells(c) end
    c.own, c.bells = c.bells, {} -- and what is put back below waits until this call is over
    for _, queue in ipairs(ask.queues) do
        while not paused[queue] and #claims < ask.count and passed < 16 and popped < MOST_BELLS do
            local bells = pop_bells(c, queue, ask.count - #claims)
            if not bells or bells.err then break end
            for k = 1, #bells do
                popped = popped + 1
                local claimed, back = claim(c, ask, job_of(c, bells[k]), popped)
                if claimed then claims[#claims + 1] = claimed end
                if back then passed = passed + 1 end
            end
        end
    end
    if behind and c.newest then go_on(c) end
    remember(c, ask, claims)
    if ear and not ask.again and passed == 0 and popped < MOST_BELLS and #claims < ask.count then await(c, ear, ask, ask.count - #claims) end
    return { 0, passed, claims, told }
end
