-- Extend the leases of a worker's running attempts.
-- KEYS  1 prefix
-- ARGV  1 lease ms   then for each attempt: job, token
-- Returns for each 1 extended, 0 lost (somebody else has it, or it is over), -1 its run was cancelled.
return function(keys, args)
    local c = context(keys)
    local answers, deadline = {}, c.now + number(args[1], 'lease', 1)
    for k = 2, #args, 2 do
        local run, index, attempt = split(args[k])
        local r = run and read_record(redis.pcall('HGET', run_key(c, run), index))
        if not r or r[TOKEN] ~= args[k + 1] or r[ATTEMPT] ~= attempt then
            answers[#answers + 1] = 0
        elseif r[STATE] == 'running' then
            redis.call('ZADD', c.p .. 'leases', deadline, args[k])
            answers[#answers + 1] = 1
        else
            answers[#answers + 1] = r[STATE] == 'cancelled' and -1 or 0
        end
    end
    return answers
end
