-- Tell history something about a run that happened outside of it.
-- KEYS  1 prefix
-- ARGV  1 run   2 kind: webhook   3 what   4 outcome   5 message
-- Returns 1. A repeat is told twice.
return function(c, args)
    emit(c, 'e', 'note', 'run', args[1], 'kind', args[2], 'what', args[3], 'outcome', args[4], 'message', args[5])
    return 1
end
