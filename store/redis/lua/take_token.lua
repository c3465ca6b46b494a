-- Take a token out of a bucket, if there is one: one step of the generic cell rate algorithm (ITU-T I.371).
--
-- KEYS: the bucket, which holds the time at which it will be full again (us, by this server's clock).
-- ARGV: us until a token is added; us until a whole burst but one is added.
-- Returns: 0 if a token was taken, else the us until there is one.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now)
local wait = full_at - ARGV[2] - now
if wait > 0 then return math.ceil(wait) end
full_at = full_at + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
