-- Handing over: a worker that has emptied its queues is given what comes next by the very call that queues it, as a message
-- on a channel only it listens to. So nothing is rung, popped and asked for; and what is queued only to be claimed at
-- once is never written down as queued, neither for us nor for RQ.
--
-- Who listens is known here only, in the server's memory of this library. All of it may be forgotten: the bell is rung for
-- what is not handed over, and idle workers wait for bells as well.

local MOST_HANDED = 64 -- attempts in one call
local MOST_TRIED = 8 -- workers that are asked whether they have loaded a task
local MOST_EARS = 4096

-- channel of a worker -> { channel, worker, token, lease, left, given, offers, listed = { queue -> true }, at }
-- left: attempts it still wants; given: those it was ever handed on this channel; at: when the worker was last heard of
local ears, ear_count = {}, 0
local ear_of = {} -- prefix and worker -> its ear
-- prefix -> queue -> { first, last, [k] = ear }: those that want work of it; whose turn it is comes first
local lines = {}

local function channel_of(c, ear) return c.p .. 'hand:' .. ear end

-- A worker asks. What is on its way to it, which it did not know of when it asked, counts as given.
attend = function(c, ask)
    if ask.ear == '' then return nil end
    local channel = channel_of(c, ask.ear)
    local ear = ears[channel]
    if not ear then
        if ear_count >= MOST_EARS then ears, ear_count, ear_of, lines = {}, 0, {}, {} end
        ear = { channel = channel, given = ask.heard, listed = {} }
        ears[channel], ear_count = ear, ear_count + 1
        ear_of[c.p .. ask.worker] = ear
    end
    ear.left, ear.at = 0, c.now
    if ear.given > ask.heard then ask.count = math.max(0, ask.count - (ear.given - ask.heard)) end
    return ear
end

-- A worker beats.
local function heard_of(c, worker)
    local ear = ear_of[c.p .. worker]
    if ear then ear.at = c.now end
end

-- Its queues are empty, and it wants so many more.
await = function(c, ear, ask, left)
    ear.worker, ear.token, ear.lease, ear.left, ear.offers = ask.worker, ask.token, ask.lease, left, ask.offers
    ear.number = MOST_BELLS -- tokens of what is handed over are numbered from here, after those of the answer
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

-- Whether it is there: what is sent to nobody would wait until its lease has lapsed. A connection to a machine that has
-- lost its power or its network may stay open for minutes; but then three heartbeats were missed.
local function is_there(c, ear)
    if c.handed[ear] then return true end
    if c.now - ear.at > ear.lease / 2 or redis.call('PUBSUB', 'NUMSUB', ear.channel)[2] == 0 then
        ears[ear.channel], ear_count, ear.left = nil, ear_count - 1, 0
        if ear_of[c.p .. ear.worker] == ear then ear_of[c.p .. ear.worker] = nil end
        return false
    end
    c.handed[ear] = {}
    ear.deadline = string.format('%.0f', c.now + ear.lease)
    return true
end

-- The first in this line who wants work, is there and has loaded the task; it stays the first.
local function first_of_line(c, line, queue, node)
    local tried = 0
    while line.first <= line.last and tried < MOST_TRIED do
        local ear = line[line.first]
        if ear.left <= 0 or not is_there(c, ear) then
            leave(line, queue)
        elseif is_offered(c, ear, node) then
            return ear
        else
            to_the_end(line)
            tried = tried + 1
        end
    end
    return nil
end

-- Hand over these, in order, as far as somebody waits for them. Returns the bells that remain.
local function hand_over_of(c, line, queue, bells)
    local rest = {}
    for k = 1, #bells do
        local job = job_of(c, bells[k])
        local at = c.handed_count < MOST_HANDED and c.waiting[job]
        local ear = at and first_of_line(c, line, queue, c.fresh[at + 2])
        if ear then
            c.handed_count, ear.number, ear.left = c.handed_count + 1, ear.number + 1, ear.left - 1
            if ear.left <= 0 then leave(line, queue) else to_the_end(line) end
            local claimed = claim(c, ear, job, ear.number)
            if claimed then
                local claims = c.handed[ear]
                claims[#claims + 1], ear.given = claimed, ear.given + 1
            end
        else
            rest[#rest + 1] = bells[k]
        end
    end
    return rest
end

-- Hand over what this call has queued; `settle` rings for what remains.
hand_over = function(c)
    local queues = lines[c.p]
    if not queues or not c.fresh[1] then return end
    local paused
    for queue, line in pairs(queues) do
        local bells = line.first <= line.last and (c.own[queue] or c.bells[queue])
        if bells then
            if not paused then
                paused = suspended_or_paused(c)
                if not paused then return end
                c.handed, c.handed_count = {}, 0
            end
            if not paused[queue] then
                local batches = c.own[queue] and c.own or c.bells
                batches[queue] = nil
                local rest = hand_over_of(c, line, queue, bells)
                local more = batches[queue] or {} -- queued meanwhile, by what a failed claim led to
                for k = 1, #more do rest[#rest + 1] = more[k] end
                batches[queue] = rest[1] and rest or nil
            end
        end
    end
    if not paused then return end
    c.messages = {}
    for ear, claims in pairs(c.handed) do
        if claims[1] then
            remember_handed(c, ear, claims)
            local n = #c.messages
            c.messages[n + 1], c.messages[n + 2] = ear.channel, cmsgpack.pack(claims)
        end
    end
end
