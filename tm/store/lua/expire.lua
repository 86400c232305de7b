-- End the runs that took longer than their graph allows.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns how many were ended.
return function(c, args)
    local key = c.p .. 'deadlines'
    local runs = redis.call('ZRANGEBYSCORE', key, '-inf', c.stamp, 'LIMIT', 0, limit_of(args[1]))
    for k = 1, #runs do
        -- the tasks of a large run may be ended later, and its deadline goes at the end of that
        cancel_run(c, runs[k], 'timed_out', 'the run took longer than its graph allows')
        redis.call('ZREM', key, runs[k])
    end
    return #runs
end
