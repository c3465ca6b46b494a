-- The nodes that are alive, as one bus knows them.
--
-- KEYS: the leases of nodes.
local t = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), '+inf')
