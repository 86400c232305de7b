-- End the runs that took longer than their graph allows.
-- KEYS  1 prefix
-- ARGV  1 limit
-- Returns how many were ended.
return function(keys, args)
    local c = context(keys)
    local runs = redis.call('ZRANGEBYSCORE', c.p .. 'deadlines', '-inf', c.now, 'LIMIT', 0, limit_of(args[1]))
    for _, run in ipairs(runs) do
        if not cancel_run(c, run, 'timed_out', 'the run took longer than its graph allows') then
            redis.call('ZREM', c.p .. 'deadlines', run)
        end
    end
    return #runs
end
