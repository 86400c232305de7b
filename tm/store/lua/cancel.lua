-- End an open run from outside.
-- KEYS  1 prefix
-- ARGV  1 run   2 its final state: cancelled or timed_out   3 reason   4 ms its running tasks get to tidy up, '' or nothing
--       for what their workers are set to
-- Returns 1 ended, 0 there is no such open run, 2 it had been cancelled before, and what still runs of it is hurried.
-- The tasks of a large run are ended bit by bit, by later calls.
return function(c, args)
    if args[2] ~= 'cancelled' and args[2] ~= 'timed_out' then error({ err = 'ERR no run ends as ' .. args[2] }) end
    local hurry = args[4] and args[4] ~= ''
    if hurry then number(args[4], 'grace', 0) end
    if cancel_run(c, args[1], args[2], args[3]) then
        if hurry then redis.call('HSET', run_key(c, args[1]), 'grace', args[4]) end
        return 1
    end
    if hurry and redis.call('HGET', run_key(c, args[1]), 'state') == 'cancelled' then
        redis.call('HSET', run_key(c, args[1]), 'grace', args[4])
        return 2
    end
    return 0
end
