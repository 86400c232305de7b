-- Plans: immutable, so what was read once may be kept for as long as the server lives.
-- The server keeps a plan while open runs need it, which are counted in its field `open`, and a day longer.

local plans, plan_count = {}, 0
-- Of their tasks only those that were used of late are kept, and of large graphs as little as can be: Lua's collector goes on
-- and on through all there is. With all of a graph of 10,000 tasks, 27 MB, each task of any graph took the server half as long
-- again.
local MOST_READ = 1500 -- pieces of 0.3 KB, until those that were not used meanwhile are forgotten
local WHOLE = 4 -- pieces of a task that has little in common with others, or of which all is kept
local SMALL = 100 -- tasks of a graph for each of which all is kept that makes the next use quicker
local FEW = 32 -- parents
local pieces_read = 0

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
            roots = cmsgpack.unpack(head[4]), nodes = {}, older = {}, alike = {},
            deadline = tonumber(head[5] or 0), calls = kinds_of(head[6]),
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

local function forget_unused()
    for _, plan in pairs(plans) do
        if plan.older and (next(plan.nodes) or next(plan.older)) then plan.older, plan.nodes, plan.alike = plan.nodes, {}, {} end
    end
    pieces_read = 0
end

-- Where the name of a packed node begins and ends: it follows the first byte of a list, and the head of a text.
local function name_within(packed)
    local head, a, b, c, d = string.byte(packed, 2, 6)
    if head == 0xd9 then return 4, 3 + a end
    if head == 0xda then return 5, 4 + a * 256 + b end
    if head == 0xdb then return 7, 6 + ((a * 256 + b) * 256 + c) * 256 + d end
    return 3, 2 + head - 0xa0
end

-- What tasks may have in common, by what follows the name of one: a task finds there what is not in its own table.
local function common_of(plan, packed, rest)
    local common = plan.alike[rest]
    if common then return common end
    local t = cmsgpack.unpack(packed)
    common = {
        queue = t[2], parents = t[3], children = t[4], retries = t[5], delay = t[6], backoff = t[7], longest = t[8], jitter = t[9],
        timeout = tostring(t[10]), calls = kinds_of(t[11]), graph = plan.graph,
    }
    common.__index, plan.alike[rest], pieces_read = common, common, pieces_read + WHOLE
    return common
end

-- These are kept where a graph is small (`read_node`).
local function first_of(node) return node.first or '_' .. node.field .. '_1' end
function label_of(node) return node.label or node.graph .. '.' .. node.name end
local function wanted_of(node) return node.wanted or node.graph .. '/' .. node.name end
function first_call_of(node) return node.first_call or rest_of_call(node, 1) end

local function read_node(plan, index)
    local packed = redis.pcall('HGET', plan.key, index)
    if type(packed) ~= 'string' then packed = cmsgpack.pack({ '', 'default', {}, {}, 0, 0, 0, -1, 0, -1 }) end
    local first, last = name_within(packed)
    local node = { index = index, field = string.format('%d', index), name = string.sub(packed, first, last) }
    setmetatable(node, common_of(plan, packed, string.sub(packed, last + 1)))
    if plan.n <= SMALL then
        node.kept, node.first, node.label, node.wanted = true, first_of(node), label_of(node), wanted_of(node)
        node.first_call, pieces_read = first_call_of(node), pieces_read + WHOLE
    end
    return node
end

-- Never fails, for it is called between writes: a node that somebody deleted has a name no worker knows.
local function node_of(plan, index)
    local node = plan.nodes[index]
    if node then return node end
    if pieces_read >= MOST_READ then forget_unused() end
    node = plan.older[index] or read_node(plan, index)
    plan.nodes[index], pieces_read = node, pieces_read + 1
    return node
end

-- The names of some of these nodes, of which nothing else is read and nothing kept: the way for many (`FEW`).
local function names_of(plan, indices, first, last)
    local names = {}
    local packed = redis.pcall('HMGET', plan.key, unpack(indices, first, last))
    for k = 1, last - first + 1 do names[k] = packed[k] and string.sub(packed[k], name_within(packed[k])) or '' end
    return names
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
