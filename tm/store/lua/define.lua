-- Store the plan of one version of a graph, and what is known of the graph now.
-- KEYS  1 prefix
-- ARGV  1 version   2 graph   3 timeout of a run in s, 0 for none   4 roots, packed   5 info, packed, '' for none
--       6 deadline of a run in s, 0 for none   7 the kinds of events its callbacks want, packed, '' for none
--       8 number of queues, queues...   then nodes, packed
-- Returns 1 new, 0 known. Plans never change, so repeating is harmless.
return function(c, args)
    local key, queues = plan_key(c, args[1]), number(args[8], 'number of queues', 1)
    local first = 9 + queues
    if #args < first then error({ err = 'ERR a plan without nodes' }) end
    number(args[3], 'timeout', 0)
    number(args[6], 'deadline', 0)
    if args[5] ~= '' then redis.call('HSET', c.p .. 'graphs', args[2], args[5]) end
    redis.call('SADD', c.p .. 'names', args[2])
    for k = 9, 8 + queues do redis.call('SADD', c.p .. 'queues', args[k]) end
    if redis.call('EXISTS', key) == 1 then
        -- kept for a day from now, if not for ever
        if redis.call('PTTL', key) >= 0 then redis.call('PEXPIRE', key, PLAN_KEPT) end
        return 0
    end
    plans[key] = nil -- the server may have been emptied under what we remember
    local fields = { 'graph', args[2], 'n', #args - first + 1, 'timeout', args[3], 'roots', args[4] }
    if args[6] ~= '0' then
        fields[9], fields[10] = 'deadline', args[6]
    end
    if args[7] ~= '' then
        fields[#fields + 1] = 'calls'
        fields[#fields + 1] = args[7]
    end
    for k = first, #args do
        local n = #fields
        fields[n + 1], fields[n + 2] = k - first, args[k]
        if n > 1000 or k == #args then
            redis.call('HSET', key, unpack(fields))
            fields = {}
        end
    end
    redis.call('PEXPIRE', key, PLAN_KEPT)
    return 1
end
