-- End what waits in a queue: the run of each attempt is cancelled, and a callback is given up.
-- KEYS  1 prefix
-- ARGV  1 queue   2 reason   3 limit   4 ms of the instant up to which, '' for now: what comes later is left alone
-- Returns { that instant, attempts that waited, attempts looked at, runs that ended... }. Call it again with the instant until it
-- looks at none.
return function(c, args)
    local key, limit = queued_key(c, args[1]), limit_of(args[3])
    local upto = args[4] == '' and c.now or number(args[4], 'instant', 0)
    local stamp = string.format('%.0f', upto)
    local jobs = redis.call('ZRANGEBYSCORE', key, '-inf', stamp, 'LIMIT', 0, limit)
    local waited, looked, runs = redis.call('ZCOUNT', key, '-inf', stamp), 0, {}
    for k = 1, #jobs do
        if c.room <= 0 then break end
        looked = looked + 1
        local job = jobs[k]
        local a = look_up(c, job)
        if a and a.current and a.open and a.r[STATE] == 'queued' then
            if a.plan.of then
                unqueue(c, args[1], job)
                fail(c, a, 'failed', cmsgpack.pack({ type = 'Purged', message = args[2], traceback = '' }), false, false, 0, 0)
            elseif cancel_run(c, a.run, 'cancelled', args[2]) then
                runs[#runs + 1] = a.run
            end
        elseif not a then
            bury(c, job)
        end
        add(c.unqueued, args[1], job) -- also what was there for nothing, or it would be looked at again
    end
    return { stamp, waited, looked, unpack(runs) }
end
