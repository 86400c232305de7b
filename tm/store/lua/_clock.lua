-- Milliseconds since the epoch by the server's clock, the only one that decides anything.
-- Tests load another file in place of this one, to let time pass as they like.
local function server_now()
    local t = redis.call('TIME')
    return t[1] * 1000 + math.floor(t[2] / 1000)
end
