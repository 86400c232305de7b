-- Ring the doorbells again that were lost: popped by somebody who died before claiming.
-- Bells of a queue ring in the order in which attempts were queued. So an attempt older than the one at the head of the
-- list has no bell any more; a deep queue of waiting work is left alone.
-- KEYS  1 prefix
-- ARGV  1 limit   2 ms an attempt must have been queued
-- What cannot be read is not rung for: its run ends and says why.
-- Returns how many attempts were dealt with.
return function(c, args)
    local rung, limit = 0, limit_of(args[1])
    local latest = c.now - number(args[2], 'age')
    local queues = redis.call('SMEMBERS', c.p .. 'queues')
    for k = 1, #queues do
        local queue = queues[k]
        local key, bells, before = queued_key(c, queue), bell_key(c, queue), latest
        for _ = 1, limit do
            local head = redis.pcall('LINDEX', bells, 0)
            if type(head) ~= 'string' then
                if head then before = -1 end -- something else is in the place of this queue
                break
            end
            local job = job_of(c, head)
            local since = redis.call('ZSCORE', key, job)
            if since then
                before = math.min(before, tonumber(since) - 1)
                break
            end
            redis.call('LPOP', bells) -- a bell for nothing
            if split(job) then c.gone[#c.gone + 1] = rq_job_key(c, job) end
        end
        local jobs = redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, limit - rung)
        for j = 1, #jobs do
            local a = look_up(c, jobs[j])
            if a and a.open and a.current and a.r[STATE] == 'queued' then
                add(c.queued, queue, c.stamp, jobs[j])
                add(c.bells, queue, bell_of(c, jobs[j]))
            else -- it would be rung for ever
                redis.call('ZREM', key, jobs[j])
                if not a then bury(c, jobs[j]) end
            end
        end
        rung = rung + #jobs
    end
    return rung
end
