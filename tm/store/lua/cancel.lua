-- End an open run from outside.
-- KEYS  1 prefix
-- ARGV  1 run   2 its final state   3 reason
-- Returns 1 ended, 0 there is no such open run.
return function(keys, args)
    local c = context(keys)
    return cancel_run(c, args[1], args[2], args[3]) and 1 or 0
end
