-- Declare attempts lost whose lease has lapsed, and queue their tasks again or quarantine them.
-- KEYS  1 prefix
-- ARGV  1 limit   2 the server's time when the caller asked, '' or nothing if it does not care
-- Returns how many leases were handled: none when the call was held up, for heartbeats were held up with it.
local HELD_UP = 2000 -- ms

return function(c, args)
    local limit = limit_of(args[1])
    if args[2] and args[2] ~= '' and c.now - number(args[2], 'time of asking') > HELD_UP then return 0 end
    local jobs = redis.call('ZRANGEBYSCORE', c.p .. 'leases', '-inf', c.stamp, 'LIMIT', 0, limit)
    for k = 1, #jobs do
        local a = look_up(c, jobs[k])
        c.released[k] = jobs[k]
        if not a then bury(c, jobs[k]) end
        if a and a.open and a.current and a.r[STATE] == 'running' then
            fail(c, a, 'lost', '', true, true, c.now - a.r[CLAIMED], 0)
        end
    end
    return #jobs
end
