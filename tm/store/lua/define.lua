-- Store the plan of one version of a graph, and what is known of the graph now.
-- KEYS  1 prefix
-- ARGV  1 version   2 graph   3 timeout of a run in s, 0 for none   4 roots, packed   5 info, packed, '' for none   6... nodes, packed
-- Returns 1 new, 0 known. Plans never change, so repeating is harmless.
return function(keys, args)
    local c = context(keys)
    local key = c.p .. 'plan:' .. args[1]
    if #args < 6 then error({ err = 'ERR a plan without nodes' }) end
    number(args[3], 'timeout', 0)
    if args[5] ~= '' then redis.call('HSET', c.p .. 'graphs', args[2], args[5]) end
    redis.call('SADD', c.p .. 'names', args[2])
    if redis.call('EXISTS', key) == 1 then return 0 end
    plans[key] = nil -- the server may have been emptied under what we remember
    for k = 6, #args do
        redis.call('HSET', key, k - 6, args[k])
        redis.call('SADD', c.p .. 'queues', unpack_message(args[k])[2])
    end
    -- the head comes last: a plan with a head is whole
    redis.call('HSET', key, 'graph', args[2], 'n', #args - 5, 'timeout', args[3], 'roots', args[4])
    return 1
end
