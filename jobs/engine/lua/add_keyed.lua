-- Add a volatile entry, unless one is there under its key.
--
-- KEYS: the key, then the stream, or the sorted set of those that wait. ARGV: name of the job, for how many s the key is
--   held at most, how many entries there may be, the delay in ms (0: none), then the fields of the entry, or the member.
-- Returns: the name of the job that is there now; '' if there is no room.
local there = redis.call('GET', KEYS[1])
if there then return there end
local delay = tonumber(ARGV[4])
local count = redis.call(delay > 0 and 'ZCARD' or 'XLEN', KEYS[2])
if count >= tonumber(ARGV[3]) then return '' end
-- First what a full Redis refuses: then nothing has been written.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if delay > 0 then
    local time = redis.call('TIME')
    local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    redis.call('ZADD', KEYS[2], now + delay, ARGV[5])
else
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
end
return ARGV[1]
