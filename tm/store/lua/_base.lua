-- What all functions stand on: the call's context, the names of all keys, records, events.
-- Redis does not roll a script back. So every function first reads and decides, and writes only what cannot fail.
--
-- c, the context of one call:
--   p, rq, bell   prefixes of our keys, of RQ's queue names and of RQ's job ids
--   events, leases  two of our keys
--   now, stamp    ms since the epoch, as a number and as text (a number costs each command it goes to a conversion)
--   room          how many moves this call still makes; what is beyond is left to later calls (`defer`)
--   and what it has yet to write, in batches (`settle`)

-- The server's libraries, kept at hand by `operation`: to look up each by its name in each use costs 0.4 us a task more.
-- They are not there yet while this is loaded.
local function libraries() return redis, cmsgpack, string, math, unpack, pcall, pairs, type, tonumber end
local redis, cmsgpack, string, math, unpack, pcall, pairs, type, tonumber = redis

local MAX_LOSSES = 3
local LONGEST_DELAY = 30 * 86400 -- seconds; as tm.retry.LONGEST_DELAY
local UNPACKABLE = 4000 -- arguments that fit on Lua's stack in one call
local MOST_CLAIMS = 256 -- that one call hands out
local MOST_BELLS = 1000 -- that one call answers, most of them for nothing: about 3 ms
local ROOM = 200 -- tasks queued, blocked or cancelled in one call: about 2 ms
local MOST_PIECES = 64 -- of events in one entry of the stream: two each
local MOST_BYTES = 262144 -- of events in one entry, unless one alone is larger
local PLAN_KEPT = 86400000 -- ms a plan outlives the last run that needs it

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

-- Keys ------------------------------------------------------------------------------------------------------------

local function run_key(c, run) return c.p .. 'run:' .. run end
local function out_key(c, run) return c.p .. 'out:' .. run end
local function plan_key(c, version) return c.p .. 'plan:' .. version end
local function open_key(c, graph) return c.p .. 'open:' .. graph end
local function queued_key(c, queue) return c.p .. 'queued:' .. queue end
local function bell_key(c, queue) return 'rq:queue:' .. c.rq .. queue end
-- What RQ calls an attempt. Runs of the same tick have the same id in every namespace, RQ knows no namespaces.
local function bell_of(c, job) return c.bell == '' and job or c.bell .. job end
local function rq_job_key(c, job) return 'rq:job:' .. c.bell .. job end

-- The attempt a bell rings for.
local function job_of(c, bell)
    if c.bell ~= '' and string.sub(bell, 1, #c.bell) == c.bell then return string.sub(bell, #c.bell + 1) end
    return bell
end

local function split(job)
    local run, node, attempt = string.match(job, '^(.+)_(%d+)_([1-9]%d*)$')
    if not run or #node > 9 or #attempt > 9 then return nil end -- larger numbers are nobody's, and fit in no history
    return run, node, tonumber(attempt)
end

-- Node records: the state of one task of one run -----------------------------------------------------------------------

local STATE, ATTEMPT, TOKEN, FAILS, LOSSES, CLAIMED, WORKER, AT = 1, 2, 3, 4, 5, 6, 7, 8
-- AT: when it was queued, when its retry is due, or when it ended
local EIGHT = 0x98 -- how an array of eight items begins
local NO_TICK = '-1' -- the tick of a run that no clock asked for

local function record(state, attempt, at)
    return { state, attempt, '', 0, 0, 0, '', at }
end

local function packed_record(r) return cmsgpack.pack(r) end

-- The record in these bytes; nil when they are none. One damaged run must not stop a sweep over all.
local function read_record(packed)
    if type(packed) ~= 'string' or string.byte(packed) ~= EIGHT then return nil end
    -- its items one by one, for a table that grows by each of them takes 0.2 us longer
    local good, _, state, attempt, token, fails, losses, claimed, worker, at = pcall(cmsgpack.unpack_limit, packed, AT, 1)
    if not good or at == nil then return nil end
    return { state, attempt, token, fails, losses, claimed, worker, at }
end

local function is_open(state) return state == 'queued' or state == 'running' end

-- Events for history ------------------------------------------------------------------------------------------------

-- What one call makes happen is one entry of the stream, written at its end (`write_events`): an entry for each event took
-- a tenth of the time of a small run. Here an event is two pieces of bytes, how its map begins and the rest.
-- An event is a map of fifteen pairs at most; names and values are packed one by one because that takes half the time of
-- a table.
local function emit(c, ...)
    local told, n = c.told, #c.told
    told[n + 1], told[n + 2] = string.char(129 + select('#', ...) / 2), cmsgpack.pack('at', c.now, ...)
end

-- What many events have in common is packed once: the beginning of a map of so many pairs.
local function beginning(pairs, ...) return string.char(128 + pairs) .. cmsgpack.pack(...) end

local function emit_rest(c, begun, ...)
    local told, n = c.told, #c.told
    told[n + 1], told[n + 2] = begun, cmsgpack.pack('at', c.now, ...)
end

local function emit_attempt(c, run, graph, node, task, attempt, outcome, state, worker, claimed, ms, error, due)
    emit(c, 'e', 'attempt', 'run', run, 'graph', graph, 'node', node, 'task', task, 'attempt', attempt,
        'outcome', outcome, 'state', state, 'worker', worker, 'claimed', claimed, 'ms', ms, 'error', error, 'due', due)
end

local function emit_task(c, run, node, state, reason)
    emit(c, 'e', 'task', 'run', run, 'node', node.index, 'task', node.name, 'state', state, 'reason', reason)
end

-- What a call writes at its end ------------------------------------------------------------------------------------------

local function add(batches, key, one, two)
    local batch = batches[key]
    if not batch then
        batch = {}
        batches[key] = batch
    end
    local n = #batch
    batch[n + 1], batch[n + 2] = one, two
end

-- Nothing that fails here keeps the rest from being written; the caller hears of it in the end.
local function write(c, command, key, batch)
    for first = 1, #batch, UNPACKABLE do
        local reply = redis.pcall(command, key, unpack(batch, first, math.min(first + UNPACKABLE - 1, #batch)))
        if type(reply) == 'table' and reply.err then c.trouble = reply end
    end
end

local function write_entry(c, first, last)
    local reply = redis.pcall('XADD', c.events, '*', 'd', table.concat(c.told, '', first, last))
    if type(reply) == 'table' and reply.err then c.trouble = reply end
end

-- The events in the order in which they were told: as few entries as hold them.
local function write_events(c)
    local told, first, size = c.told, 1, 0
    for k = 1, #told, 2 do
        local more = #told[k] + #told[k + 1]
        if k - first == MOST_PIECES or (k > first and size + more > MOST_BYTES) then
            write_entry(c, first, k - 1)
            first, size = k, 0
        end
        size = size + more
    end
    if told[1] then write_entry(c, first, #told) end
end

local function ring_at_end(c, batches)
    for queue, bells in pairs(batches) do
        local key = bell_key(c, queue)
        for first = 1, #bells, UNPACKABLE do
            local last = math.min(first + UNPACKABLE - 1, #bells)
            if redis.pcall('RPUSH', key, unpack(bells, first, last)) == last - first + 1 then
                redis.pcall('SADD', 'rq:queues', key)
            end
        end
    end
end

-- Ring the bells of what this call has queued so far.
-- What others may write to as well, all of `rq:`, is written with pcall: trouble there costs a bell, never the truth.
local function ring_bells(c)
    if next(c.first) then
        for queue, bells in pairs(c.first) do
            for k = #bells, 1, -1 do redis.pcall('LPUSH', bell_key(c, queue), bells[k]) end
            redis.pcall('SADD', 'rq:queues', bell_key(c, queue))
        end
        c.first = {}
    end
    if next(c.own) then
        ring_at_end(c, c.own)
        c.own = {}
    end
    if next(c.bells) then
        ring_at_end(c, c.bells)
        c.bells = {}
    end
end

-- what RQ is to call, packed: four items, a string of 25 bytes, nil, and three items that follow; then an empty map
local RQ_CALL, EMPTY_MAP = '\148\185tm_worker.process.perform\192\147', '\128'

-- What follows the run in what RQ is to call.
local function rest_of_call(node, attempt) return cmsgpack.pack(node.index, attempt) .. EMPTY_MAP end

-- The runs that began in this call, where those that are open are listed; also before anything reads that list.
local function write_opened(c)
    for key, batch in pairs(c.opened) do write(c, 'ZADD', key, batch) end
    if next(c.opened) then c.opened = {} end
end

local settle_plans, rq_time, label_of, first_call_of -- below
local hand_over -- in _handing.lua
local callback_plan, call_of_task, call_of_graph, callback_inputs, tell_of_callback -- in _callbacks.lua

-- Write the batches. Also when the call has failed: what it had decided before stands.
local function settle(c)
    local good, trouble = pcall(hand_over, c)
    if not good then c.trouble = trouble end
    write_events(c)
    ring_bells(c)
    local time
    local fresh = c.fresh
    for k = 1, #fresh, 4 do
        local job, run, node, attempt = fresh[k], fresh[k + 1], fresh[k + 2], fresh[k + 3]
        if c.waiting[job] == k then -- it was not claimed in this very call
            time = time or rq_time(c.now)
            add(c.queued, node.queue, c.since[job] or c.stamp, job)
            redis.pcall('HSET', rq_job_key(c, job), 'created_at', time, 'enqueued_at', time, 'status', 'queued',
                'origin', c.rq .. node.queue, 'description', label_of(node),
                'data', RQ_CALL .. cmsgpack.pack(run) .. (attempt == 1 and first_call_of(node) or rest_of_call(node, attempt)))
        end
    end
    for queue, batch in pairs(c.queued) do write(c, 'ZADD', queued_key(c, queue), batch) end
    for queue, batch in pairs(c.unqueued) do write(c, 'ZREM', queued_key(c, queue), batch) end
    for first = 1, #c.gone, UNPACKABLE do
        redis.pcall('DEL', unpack(c.gone, first, math.min(first + UNPACKABLE - 1, #c.gone)))
    end
    write(c, 'ZREM', c.leases, c.released)
    write(c, 'ZADD', c.leases, c.leased)
    write_opened(c)
    for key, batch in pairs(c.closed) do write(c, 'ZREM', key, batch) end
    settle_plans(c)
end

local spaces, space_count = {}, 0 -- prefix -> what is the same in all calls of a namespace

local function space_of(prefix)
    local space = spaces[prefix]
    if space then return space end
    local namespace = string.match(prefix, '^tm:(.*):$')
    local own = namespace == 'default'
    space = { p = prefix, rq = own and '' or namespace .. '.',
        bell = own and '' or string.gsub(namespace, '[^%w-]', '_') .. '__' } -- RQ allows letters, digits, _ and - here
    space.events, space.leases = space.p .. 'events', space.p .. 'leases'
    if space_count >= 64 then spaces, space_count = {}, 0 end
    spaces[prefix], space_count = space, space_count + 1
    return space
end

local function context(keys)
    local space, now = space_of(keys[1]), server_now()
    return {
        p = space.p, now = now, stamp = string.format('%.0f', now), room = ROOM,
        rq = space.rq, bell = space.bell, events = space.events, leases = space.leases,
        told = {}, -- pieces of events, in order
        bells = {}, first = {}, -- queue -> bells to ring, those that go before all others
        own = {}, -- queue -> bells to ring that this very call may still answer (`grant`)
        fresh = {}, waiting = {}, -- job, run, node, attempt... queued by this call; job -> where in `fresh`, until it is claimed
        since = {}, -- job -> since when it is queued, if that is not now
        queued = {}, unqueued = {}, -- queue -> score, job... to add; jobs to remove
        gone = {}, -- keys of RQ jobs to delete
        leased = {}, released = {}, -- deadline, job...; jobs
        opened = {}, closed = {}, -- key of the open runs of a graph -> score, run... to add; runs to remove
        created = {}, -- run that this call has made -> bytes of its params and config
        uses = {}, -- plan -> runs that need it from now on, less those that no longer do
    }
end

-- A function of the library made of what it does in a context.
local function operation(body)
    return function(keys, args)
        if not cmsgpack then redis, cmsgpack, string, math, unpack, pcall, pairs, type, tonumber = libraries() end
        local c = context(keys)
        local good, reply = pcall(body, c, args)
        settle(c)
        if not good or c.trouble then error(good and c.trouble or reply, 0) end
        return reply
    end
end
