-- Add a volatile job, unless a job waits or runs under its key.
--
-- KEYS: the key, then the stream, or the sorted set of delayed jobs. ARGV: id of the job, the longest that the key is held
--   in s, how many entries there may be, the delay in ms (0: none), then the fields of the entry, or the packed element.
-- Returns: the id of the job that has the key; '' if the stream or the set is full.
local there = redis.call('GET', KEYS[1])
if there then return there end
local delay = tonumber(ARGV[4])
local count = redis.call(delay > 0 and 'ZCARD' or 'XLEN', KEYS[2])
if count >= tonumber(ARGV[3]) then return '' end
-- Redis refuses this one first if it is full: then the script has written nothing.
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if delay > 0 then
    local time = redis.call('TIME')
    local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    redis.call('ZADD', KEYS[2], now + delay, ARGV[5])
else
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
end
return ARGV[1]
