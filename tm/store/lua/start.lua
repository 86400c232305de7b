-- Start runs of one graph: by hand, or from an application.
-- KEYS  1 prefix
-- ARGV  1 version   2 trigger   3 ms to keep a run that succeeded   4 ms to keep one that did not
--       5 config of all of them   then for each run: id, params
-- Returns for each run 1 created, 0 that id exists. Fails with NOPLAN, having done nothing, when the version is unknown.
local FIELDS = 2

-- Which of these runs exist; one command for all of them, if none does.
local function existing(c, args)
    local keys, found = {}, {}
    for k = 6, #args, FIELDS do keys[#keys + 1] = run_key(c, args[k]) end
    for first = 1, #keys, UNPACKABLE do
        local last = math.min(first + UNPACKABLE - 1, #keys)
        if redis.call('EXISTS', unpack(keys, first, last)) > 0 then
            for k = first, last do
                if redis.call('EXISTS', keys[k]) == 1 then found[args[6 + (k - 1) * FIELDS]] = true end
            end
        end
    end
    return found
end

return function(c, args)
    local plan = plan_for_start(c, args[1])
    if not plan then return redis.error_reply('NOPLAN unknown version ' .. args[1]) end
    number(args[3], 'time to keep a run', 0)
    number(args[4], 'time to keep a failed run', 0)
    for k = 6, #args, FIELDS do
        if args[k] == '' then error({ err = 'ERR a run without an id' }) end
    end
    local answers, exists = {}, existing(c, args)
    local t = { config = args[5], trigger = args[2], tick = '-1', born = 'queued', reason = '', ttl = args[3],
        failed_ttl = args[4] }
    for k = 6, #args, FIELDS do
        if exists[args[k]] then
            answers[#answers + 1] = 0
        else
            exists[args[k]], t.run, t.params = true, args[k], args[k + 1]
            create_run(c, plan, args[1], t)
            answers[#answers + 1] = 1
        end
    end
    return answers
end
