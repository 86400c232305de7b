-- Look at runs: their states, and the results of those that have succeeded. Changes nothing.
-- KEYS  1 prefix
-- ARGV  1 bytes of results after which the rest of the runs is left for another call; -1 for states alone   then runs
-- Returns state, result for each run, as far as it came: nil for a run that is not there, nil where there is no result.
return function(c, args)
    local most, found, n, size = number(args[1], 'bytes of results', -1), {}, 0, 0
    for k = 2, #args do
        if most >= 0 and size > most then break end
        local v = redis.pcall('HMGET', run_key(c, args[k]), 'state', 'plan')
        local result = false
        if most >= 0 and v[1] == 'success' then
            local plan = plan_of(c, v[2])
            result = plan and redis.pcall('HGET', out_key(c, args[k]), plan.n - 1)
            if type(result) == 'string' then size = size + #result else result = false end
        end
        found[n + 1], found[n + 2] = v[1] or false, result
        n = n + 2
    end
    return found
end
