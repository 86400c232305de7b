-- Plans: immutable, so what was read once is kept for as long as the server lives.
-- The server keeps a plan while open runs need it, which are counted in its field `open`, and a day longer.

local plans, plan_count = {}, 0

-- A set of the kinds of events that callbacks want to be told, from packed names; nil for none.
local function kinds_of(list)
    if type(list) == 'string' then list = cmsgpack.unpack(list) end
    if not list or not list[1] then return nil end
    local kinds = {}
    for _, kind in ipairs(list) do kinds[kind] = true end
    return kinds
end

local function plan_of(c, version)
    local key = plan_key(c, version)
    local plan = plans[key]
    if plan then return plan end
    if string.find(version, '!', 1, true) then
        plan = callback_plan(c, version)
        if not plan then return nil end
    else
        local head = redis.pcall('HMGET', key, 'graph', 'n', 'timeout', 'roots', 'deadline', 'calls')
        if not head[1] then return nil end
        plan = {
            key = key, graph = head[1], open = open_key(c, head[1]), n = tonumber(head[2]), timeout = tonumber(head[3]),
            roots = cmsgpack.unpack(head[4]), nodes = {}, deadline = tonumber(head[5] or 0), calls = kinds_of(head[6]),
        }
    end
    if plan_count >= 512 then plans, plan_count = {}, 0 end
    plans[key], plan_count = plan, plan_count + 1
    return plan
end

-- For what starts runs: also sees that the plan is still there. A server may be emptied under a memory that is not.
local function plan_for_start(c, version)
    local key = plan_key(c, version)
    if redis.call('EXISTS', key) == 1 then return plan_of(c, version) end
    plans[key] = nil
    return nil
end

-- Never fails, for it is called between writes: a node that somebody deleted has a name no worker knows.
local function node_of(plan, index)
    local node = plan.nodes[index]
    if node then return node end
    local packed = redis.pcall('HGET', plan.key, index)
    local t = type(packed) == 'string' and cmsgpack.unpack(packed)
        or { '', 'default', {}, {}, 0, 0, 0, -1, 0, -1 }
    node = {
        index = index, field = string.format('%d', index), first = string.format('_%d_1', index),
        name = t[1], queue = t[2], parents = t[3], children = t[4],
        retries = t[5], delay = t[6], backoff = t[7], longest = t[8], jitter = t[9], timeout = tostring(t[10]),
        label = plan.graph .. '.' .. t[1], wanted = plan.graph .. '/' .. t[1], calls = kinds_of(t[11]),
    }
    node.first_call = rest_of_call(node, 1)
    plan.nodes[index] = node
    return node
end

settle_plans = function(c)
    for plan, uses in pairs(c.uses) do
        if uses ~= 0 then
            local open = redis.call('HINCRBY', plan.key, 'open', uses)
            if open <= 0 then
                redis.call('PEXPIRE', plan.key, PLAN_KEPT + (c.kept or 0))
            elseif open == uses then -- nobody needed it before
                redis.call('PERSIST', plan.key)
            end
        end
    end
end
