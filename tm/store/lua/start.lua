-- Start runs of one graph: by hand, or from an application.
-- KEYS  1 prefix
-- ARGV  1 version   2 trigger   3 ms to keep a run that succeeded   4 ms to keep one that did not
--       5 config of all of them   then for each run: id, params
-- Returns for each run 1 created, 0 that id exists. Fails with NOPLAN, having done nothing, when the version is unknown.
local FIELDS = 2

return function(c, args)
    local plan = plan_for_start(c, args[1])
    if not plan then return redis.error_reply('NOPLAN unknown version ' .. args[1]) end
    number(args[3], 'time to keep a run', 0)
    number(args[4], 'time to keep a failed run', 0)
    for k = 6, #args, FIELDS do
        if args[k] == '' then error({ err = 'ERR a run without an id' }) end
    end
    local answers = {}
    local t = { config = args[5], trigger = args[2], tick = '-1', born = 'queued', reason = '', ttl = args[3],
        failed_ttl = args[4] }
    for k = 6, #args, FIELDS do
        if redis.call('EXISTS', run_key(c, args[k])) == 1 then
            answers[#answers + 1] = 0
        else
            t.run, t.params = args[k], args[k + 1]
            create_run(c, plan, args[1], t)
            answers[#answers + 1] = 1
        end
    end
    return answers
end
