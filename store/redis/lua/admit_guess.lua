-- Admit a guess of a password, unless the account has to rest. Each guess counts until one is right, or none comes for
-- long: a guess that has been admitted may be wrong, and others must not slip in before that is known.
--
-- KEYS: the account: a hash of the guesses that were admitted, and of the time (ms, by this server's clock) of the next.
-- ARGV: the guesses without a rest; ms of the first rest, which doubles with each guess; the longest one; ms until the
--   account is forgotten.
-- Returns: the number of this guess and the ms of the rest after it; or 0 and the ms until the next one.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'guesses', 'next')
local guesses, rest = tonumber(state[1]) or 0, (tonumber(state[2]) or 0) - now
if rest > 0 then return {0, rest} end
guesses, rest = guesses + 1, 0
if guesses >= tonumber(ARGV[1]) then rest = math.min(ARGV[2] * 2 ^ (guesses - ARGV[1]), tonumber(ARGV[3])) end
redis.call('HSET', KEYS[1], 'guesses', guesses, 'next', string.format('%.0f', now + rest))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {guesses, rest}
