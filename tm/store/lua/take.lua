-- Give a worker its next work.
-- KEYS  1 prefix
-- ARGV  an ask (see read_ask)
-- Returns { 1 if suspended, attempts put back, claims }. Repeating an ask with again=1 returns what it was given.
return function(keys, args)
    local c = context(keys)
    local ask = read_ask(args, 1)
    return grant(c, ask)
end
