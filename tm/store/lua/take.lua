-- Give a worker its next work.
-- KEYS  1 prefix
-- ARGV  an ask (see read_ask)
-- Returns { 1 if suspended, attempts put back, claims, and if there are any the paused ones of its queues }. Repeating an ask with again=1 returns what it was given.
return function(c, args)
    return grant(c, (read_ask(c, args, 1)))
end
