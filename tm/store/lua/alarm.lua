-- Raise the alarm for runs that are still open although their graph's deadline has passed. They go on; each is told of once.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns how many were looked at.
return function(c, args)
    local key = c.p .. 'late'
    local runs = redis.call('ZRANGEBYSCORE', key, '-inf', c.stamp, 'LIMIT', 0, limit_of(args[1]), 'WITHSCORES')
    for k = 1, #runs, 2 do
        local run, due = runs[k], tonumber(runs[k + 1])
        local v = redis.pcall('HMGET', run_key(c, run), 'plan', 'state', 'started')
        local plan = v[1] and is_open(v[2]) and plan_of(c, v[1])
        redis.call('ZREM', key, run)
        if plan then
            emit(c, 'e', 'late', 'run', run, 'graph', plan.graph, 'state', v[2], 'due', due)
            if plan.calls then
                call_of_graph(c, run, plan, 'deadline', v[2], 'the run has not ended by its deadline', v[3])
            end
        end
    end
    return #runs / 2
end
