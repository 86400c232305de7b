-- End an open run from outside.
-- KEYS  1 prefix
-- ARGV  1 run   2 its final state: cancelled or timed_out   3 reason
-- Returns 1 ended, 0 there is no such open run. The tasks of a large run are ended bit by bit, by later calls.
return function(c, args)
    if args[2] ~= 'cancelled' and args[2] ~= 'timed_out' then error({ err = 'ERR no run ends as ' .. args[2] }) end
    return cancel_run(c, args[1], args[2], args[3]) and 1 or 0
end
