-- Start one run of a graph on request: by hand, or of a past tick. Unlike start it heeds the limit of open runs, and, unless
-- it is by hand, pauses: a pause ends what nobody asks for.
-- KEYS  1 prefix
-- ARGV  1 version   2 trigger   3 ms to keep a run that succeeded   4 ms to keep one that did not
--       5 most open runs of the graph, 0 for any number   6 1 to start it whatever is paused or open
--       7 id   8 tick ms, -1 for none   9 params   10 config   11 the run it repairs, '' for none
-- Returns 1 created, 0 that id exists, -1 the graph is paused, -2 so many runs are open. Fails with NOPLAN, as start does.
return function(c, args)
    local plan = plan_for_start(c, args[1])
    if not plan then return redis.error_reply('NOPLAN unknown version ' .. args[1]) end
    number(args[3], 'time to keep a run', 0)
    number(args[4], 'time to keep a failed run', 0)
    number(args[8], 'tick')
    local most = number(args[5], 'limit of open runs', 0)
    if args[7] == '' then error({ err = 'ERR a run without an id' }) end
    if redis.call('EXISTS', run_key(c, args[7])) == 1 then return 0 end
    if args[6] ~= '1' then
        if args[2] ~= 'manual' and pause_of(c, plan.graph) then return -1 end
        if most > 0 and redis.call('ZCARD', open_key(c, plan.graph)) >= most then return -2 end
    end
    create_run(c, plan, args[1], { run = args[7], params = args[9], config = args[10], trigger = args[2], tick = args[8],
        born = 'queued', reason = '', ttl = args[3], failed_ttl = args[4], retry_of = args[11] })
    return 1
end
