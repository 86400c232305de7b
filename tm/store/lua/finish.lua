-- Accept the outcomes of attempts, let their runs go on, and give the worker its next work.
-- KEYS  1 prefix
-- ARGV  an ask (see read_ask), then for each outcome: job, token, outcome, value, error, retry, ms, chance
-- "lost" with a negative ms has not begun: its task waits again where it did, as the same attempt.
-- Returns { verdicts, grant as of take }. A verdict: 1 accepted, 0 repeated, -1 refused, above 1 the ms a retry is due.
local OUTCOMES = { success = true, skipped = true, failed = true, timed_out = true, lost = true, killed = true }
local FIELDS = 8

return function(c, args)
    local ask, first = read_ask(c, args, 1)
    if (#args - first + 1) % FIELDS ~= 0 then error({ err = 'ERR a report is cut short' }) end
    for k = first, #args, FIELDS do
        if not OUTCOMES[args[k + 2]] then error({ err = 'ERR unknown outcome: ' .. args[k + 2] }) end
        args[k + 6], args[k + 7] = number(args[k + 6], 'ms'), number(args[k + 7], 'chance', 0)
    end
    local verdicts = {}
    for k = first, #args, FIELDS do
        local job, token, outcome, ms = args[k], args[k + 1], args[k + 2], args[k + 6]
        local a, verdict = look_up(c, job), nil
        if not a or not a.current or token == '' or a.r[TOKEN] ~= token then
            verdict = -1
            local run, node, attempt = split(job)
            if run and not (a and a.plan.of) and not string.find(run, '_%a+$') then -- of callbacks nothing more is told
                emit_attempt(c, run, a and a.plan.graph or '', tonumber(node), a and a.node.name or '', attempt, 'rejected',
                    a and a.r[STATE] or '', ask.worker, -1, ms, '', -1)
            end
        elseif a.r[STATE] ~= 'running' or not a.open then
            verdict = 0
        else
            if outcome == 'success' then
                succeed(c, a, args[k + 3], ms)
                verdict = 1
            elseif outcome == 'skipped' then
                skip(c, a, args[k + 4], ms)
                verdict = 1
            elseif outcome == 'lost' and ms < 0 then
                put_back(c, a)
                verdict = 1
            else
                -- a loss that the worker itself reports was a way of giving work back: it is not charged
                verdict = fail(c, a, outcome, args[k + 4], args[k + 5] == '1', outcome ~= 'lost', ms, args[k + 7])
            end
            c.released[#c.released + 1] = job -- last: what fails halfway stays leased, and is reaped
        end
        verdicts[#verdicts + 1] = verdict
    end
    return { verdicts, grant(c, ask) }
end
