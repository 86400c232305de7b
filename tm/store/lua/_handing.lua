-- Handing over: a worker that has emptied its queues is given what comes next by the very call that queues it, as a message
-- on a channel only it listens to. So nothing is rung, popped and asked for; and what is queued only to be claimed at
-- once is never written down as queued, neither for us nor for RQ.
--
-- Who listens is known here only, in the server's memory of this library. All of it may be forgotten: the bell is rung for
-- what is not handed over, and idle workers wait for bells as well.

local MOST_HANDED = 64 -- attempts in one call
local LARGE = 262144 -- bytes of messages for one attempt that are not sent this way: a slow reader would be cut off
local MOST_SENT = 4194304 -- bytes in one call
local FEW_MESSAGES = 4
local MOST_TRIED = 8 -- workers that are asked whether they have loaded a task
local MOST_EARS = 4096

-- channel of a worker -> { channel, worker, token, lease, left, given, offers, queues, listed = { queue -> true }, at }
-- left: attempts it still wants; given: those it was ever handed on this channel; at: when the worker was last heard of
local ears, ear_count = {}, 0
local ear_of = {} -- prefix and worker -> its ear
-- prefix -> queue -> { first, last, [k] = ear }: those that want work of it; whose turn it is comes first
local lines = {}

local function channel_of(c, ear) return c.p .. 'hand:' .. ear end

local function forget_ear(ear)
    ear.left = 0 -- its places in lines are taken away when it is its turn
    if ears[ear.channel] == ear then ears[ear.channel], ear_count = nil, ear_count - 1 end
    if ear_of[ear.owner] == ear then ear_of[ear.owner] = nil end
end

-- A worker asks. What is on its way to it, which it did not know of when it asked, counts as given.
attend = function(c, ask)
    if ask.ear == '' then -- it does not listen any more, even if its old connection looks as if it were open
        local old = ear_of[c.p .. ask.worker]
        if old then forget_ear(old) end
        return nil
    end
    local channel = channel_of(c, ask.ear)
    local ear = ears[channel]
    if not ear then
        if ear_count >= MOST_EARS then ears, ear_count, ear_of, lines = {}, 0, {}, {} end
        -- tokens of what is handed over are numbered from here, after those of answers
        ear = { channel = channel, given = ask.heard, listed = {}, owner = c.p .. ask.worker, left = 0, number = MOST_BELLS }
        if ear_of[ear.owner] then forget_ear(ear_of[ear.owner]) end
        ears[channel], ear_count, ear_of[ear.owner] = ear, ear_count + 1, ear
    end
    ear.left, ear.at = 0, c.now
    if ear.given > ask.heard then ask.count = math.max(0, ask.count - (ear.given - ask.heard)) end
    return ear
end

-- A worker beats. What is known of the tasks it has loaded is read anew, so that it does not grow while nothing is asked.
local function heard_of(c, worker)
    local ear = ear_of[c.p .. worker]
    if ear then ear.at, ear.offers = c.now, {} end
end

-- Its queues are empty, and it wants so many more.
await = function(c, ear, ask, left)
    ear.worker, ear.token, ear.lease, ear.left, ear.offers = ask.worker, ask.token, ask.lease, left, ask.offers
    ear.queues = ask.queues
    local queues = lines[c.p]
    if not queues then
        queues = {}
        lines[c.p] = queues
    end
    for _, queue in ipairs(ask.queues) do
        local line = queues[queue]
        if not line then
            line = { first = 1, last = 0 }
            queues[queue] = line
        end
        if not ear.listed[queue] then
            ear.listed[queue] = true
            line.last = line.last + 1
            line[line.last] = ear
        end
    end
end

local function leave(line, queue)
    local ear = line[line.first]
    line[line.first], line.first, ear.listed[queue] = nil, line.first + 1, nil
end

local function to_the_end(line)
    local ear = line[line.first]
    line[line.first], line.first, line.last = nil, line.first + 1, line.last + 1
    line[line.last] = ear
end

-- Whether a worker is there: what is sent to nobody would wait until its lease has lapsed. A connection to a machine that has
-- lost its power or its network may stay open for minutes, but then three heartbeats are missed.
local function is_there(c, ear)
    if c.handed[ear] then return true end
    local found = c.now - ear.at <= ear.lease / 2 and redis.pcall('PUBSUB', 'NUMSUB', ear.channel)
    if not found or found.err or found[2] == 0 then
        forget_ear(ear)
        return false
    end
    c.handed[ear], ear.deadline = {}, string.format('%.0f', c.now + ear.lease)
    return true
end

-- Whether it wants a queue that comes before this one, of which something is still to be handed over.
local function wants_another_first(c, ear, queue)
    for _, other in ipairs(ear.queues) do
        if other == queue then return false end
        if c.unhanded[other] then return true end
    end
    return true -- it has asked anew, and not for this one
end

-- The first in this line who wants work, is there and has loaded the task; it stays the first.
local function first_of_line(c, line, queue, node)
    local tried = 0
    while line.first <= line.last and tried < MOST_TRIED do
        local ear = line[line.first]
        if ear.left <= 0 or not is_there(c, ear) then
            leave(line, queue)
        elseif not wants_another_first(c, ear, queue) and is_offered(c, ear, node) then
            return ear
        else
            to_the_end(line)
            tried = tried + 1
        end
    end
    return nil
end

-- The bytes of the messages for an attempt that this call has queued; too many to be sent if that cannot be told.
local function size_of(c, run, node)
    if c.created[run] then return c.created[run] end
    if node.called or #node.parents > FEW_MESSAGES then return LARGE + 1 end -- a callback gets the value it tells of
    local key, fields, size = out_key(c, run), node.parents, 0
    if not fields[1] then key, fields = run_key(c, run), { 'params', 'config' } end
    for k = 1, #fields do
        local more = redis.pcall('HSTRLEN', key, fields[k])
        if type(more) ~= 'number' then return LARGE + 1 end -- not to be read
        size = size + more
    end
    return size
end

-- Claim these, in order, as far as somebody waits for them. Returns the bells that remain.
local function claim_for_those_who_wait(c, line, queue, bells)
    local rest = {}
    for k = 1, #bells do
        local job = job_of(c, bells[k])
        local at = not c.trouble and c.handed_count < MOST_HANDED and c.handed_size < MOST_SENT and c.waiting[job]
        local ear = at and first_of_line(c, line, queue, c.fresh[at + 2])
        local size = ear and size_of(c, c.fresh[at + 1], c.fresh[at + 2])
        if ear and size <= LARGE then
            c.handed_count, c.handed_size, ear.number, ear.left = c.handed_count + 1, c.handed_size + size, ear.number + 1, ear.left - 1
            if ear.left <= 0 then leave(line, queue) else to_the_end(line) end
            local good, claimed = pcall(claim, c, ear, job, ear.number)
            if not good then
                c.trouble, rest[#rest + 1] = claimed, bells[k]
            elseif claimed then
                local claims = c.handed[ear]
                claims[#claims + 1] = claimed
            end
        else
            rest[#rest + 1] = bells[k]
        end
    end
    return rest
end

-- As if it had not been claimed: whoever calls may not publish on this channel.
local function take_back(c, claims)
    local taken = {}
    for k = 1, #claims do
        local a = look_up(c, claims[k][1])
        if a then
            put_back(c, a, c.bells)
            taken[a.job] = true
        end
    end
    local leased = {}
    for k = 1, #c.leased, 2 do
        if not taken[c.leased[k + 1]] then leased[#leased + 1], leased[#leased + 2] = c.leased[k], c.leased[k + 1] end
    end
    c.leased = leased
end

-- Hand over what this call has queued; `settle` rings for what remains.
hand_over = function(c)
    local queues = lines[c.p]
    if not queues or not c.fresh[1] then return end
    local unhanded, order = {}, {}
    for queue, line in pairs(queues) do
        local bells = line.first <= line.last and (c.own[queue] or c.bells[queue])
        if bells then unhanded[queue], order[#order + 1] = bells, queue end
    end
    if not order[1] then return end
    local paused = suspended_or_paused(c)
    if not paused then return end
    for queue in pairs(paused) do unhanded[queue] = nil end
    if order[2] then -- as those want it who are the first in line; who wants another before is passed over
        local rank = {}
        for _, queue in ipairs(order) do
            rank[queue] = 0
            for k, each in ipairs(queues[queue][queues[queue].first].queues) do
                if each == queue then rank[queue] = k end
            end
        end
        table.sort(order, function(one, two) return rank[one] < rank[two] or (rank[one] == rank[two] and one < two) end)
    end
    c.unhanded, c.handed, c.handed_count, c.handed_size = unhanded, {}, 0, 0
    for _, queue in ipairs(order) do
        local bells = unhanded[queue]
        if bells then
            unhanded[queue] = nil
            local batches = c.own[queue] and c.own or c.bells
            batches[queue] = nil
            local rest = claim_for_those_who_wait(c, queues[queue], queue, bells)
            local more = batches[queue] or {} -- queued meanwhile, by what a failed claim led to
            for k = 1, #more do rest[#rest + 1] = more[k] end
            batches[queue] = rest[1] and rest or nil
        end
    end
    for ear, claims in pairs(c.handed) do
        local heard = claims[1] and redis.pcall('PUBLISH', ear.channel, cmsgpack.pack(claims))
        if type(heard) == 'number' then
            ear.given = ear.given + #claims
        elseif heard then
            forget_ear(ear)
            take_back(c, claims)
        end
    end
end
