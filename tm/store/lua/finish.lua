-- Accept the outcomes of attempts, let their runs go on, and give the worker its next work.
-- KEYS  1 prefix
-- ARGV  an ask (see read_ask), then for each outcome: job, token, outcome, value, error, retry, ms, chance
-- Returns { verdicts, grant as of take }. A verdict: 1 accepted, 0 repeated, -1 refused, above 1 the ms a retry is due.
local OUTCOMES = { success = true, failed = true, timed_out = true, lost = true, killed = true }

return function(keys, args)
    local c = context(keys)
    local ask, k = read_ask(args, 1)
    local verdicts = {}
    if (#args - k + 1) % 8 ~= 0 then error({ err = 'ERR a report is cut short' }) end
    for j = k, #args, 8 do
        if not OUTCOMES[args[j + 2]] then error({ err = 'ERR unknown outcome: ' .. args[j + 2] }) end
        number(args[j + 6], 'ms')
        number(args[j + 7], 'chance', 0)
    end
    while k <= #args do
        local job, token, outcome = args[k], args[k + 1], args[k + 2]
        local a = look_up(c, job)
        if not a or not a.current or token == '' or a.r[TOKEN] ~= token then
            verdicts[#verdicts + 1] = -1
            local run, node, attempt = split(job)
            if run then
                emit(c, { e = 'attempt', run = run, graph = a and a.graph or '', node = tonumber(node),
                    task = a and a.node.name or '', attempt = attempt, outcome = 'rejected', state = a and a.r[STATE] or '',
                    worker = ask.worker, claimed = -1, ms = tonumber(args[k + 6]), error = '', due = -1 })
            end
        elseif a.r[STATE] ~= 'running' then
            verdicts[#verdicts + 1] = 0
        else
            redis.call('ZREM', c.p .. 'leases', job)
            local ms = tonumber(args[k + 6])
            if outcome == 'success' then
                succeed(c, a, args[k + 3], ms)
                verdicts[#verdicts + 1] = 1
            else
                -- a loss that the worker itself reports was a way of giving work back: it is not charged
                verdicts[#verdicts + 1] = fail(c, a, outcome, args[k + 4], args[k + 5] == '1', outcome ~= 'lost', ms,
                    tonumber(args[k + 7]))
            end
        end
        k = k + 8
    end
    return { verdicts, grant(c, ask) }
end
