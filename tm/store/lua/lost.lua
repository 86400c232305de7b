-- Declare lost, whatever their leases say, what these workers hold: the caller knows for certain that they are dead.
-- KEYS  1 prefix
-- ARGV  1 position of the first lease to look at   2 limit   workers...
-- Returns { leases looked at, attempts lost }.
return function(c, args)
    local first, limit, dead = number(args[1], 'position', 0), limit_of(args[2]), {}
    for k = 3, #args do dead[args[k]] = true end
    local jobs = limit > 0 and redis.call('ZRANGE', c.p .. 'leases', first, first + limit - 1) or {}
    local lost = 0
    for k = 1, #jobs do
        local a = look_up(c, jobs[k])
        if a and a.open and a.current and a.r[STATE] == 'running' and dead[a.r[WORKER]] then
            lost = lost + 1
            c.released[lost] = jobs[k]
            fail(c, a, 'lost', '', true, true, c.now - a.r[CLAIMED], 0)
        end
    end
    return { #jobs, lost }
end
