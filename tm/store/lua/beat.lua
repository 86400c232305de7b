-- Extend the leases of a worker's running attempts.
-- KEYS  1 prefix
-- ARGV  1 lease ms   then for each attempt: job, token
-- Returns for each 1 extended, 0 lost (somebody else has it, or it is over), -1 its run was cancelled,
-- -2 - n it was cancelled and has n ms to tidy up.
return function(c, args)
    local answers, deadline = {}, string.format('%.0f', c.now + number(args[1], 'lease', 1))
    for k = 2, #args, 2 do
        local run, index, attempt = split(args[k])
        local v = run and redis.pcall('HMGET', run_key(c, run), 'state', index) or {}
        local r, answer = read_record(v[2]), 0
        if r and r[TOKEN] == args[k + 1] and r[TOKEN] ~= '' and r[ATTEMPT] == attempt then
            if r[STATE] == 'running' and is_open(v[1]) then
                answer = 1
                c.leased[#c.leased + 1] = deadline
                c.leased[#c.leased + 1] = args[k]
            elseif r[STATE] == 'running' or r[STATE] == 'cancelled' then
                local grace = redis.call('HGET', run_key(c, run), 'grace')
                answer = grace and -2 - tonumber(grace) or -1
            end
        end
        answers[#answers + 1] = answer
    end
    return answers
end
