-- Renew the lease of a process on one bus, and remove the leases that have ended.
--
-- KEYS: the leases of nodes; those of writers; the stream of the node, if it is on this bus.
-- ARGV: 1 if the process is a node, 2 if it is a writer; its id; ms of a lease; the last entry that the node has read.
-- Returns: the nodes and the writers that are alive; 1 if the bus knew the process, else 0; the first entry of the
--   stream, or ''; how many entries it has.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local leases = KEYS[tonumber(ARGV[1])]
local known = (tonumber(redis.call('ZSCORE', leases, ARGV[2])) or 0) >= now and 1 or 0
-- Redis refuses this one first if its memory is full: then the script has written nothing.
redis.call('ZADD', leases, now + tonumber(ARGV[3]), ARGV[2])
for n = 1, 2 do redis.call('ZREMRANGEBYSCORE', KEYS[n], '-inf', '(' .. now) end
local first, entries = '', 0
if KEYS[3] then
  local found = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
  first = found[1] and found[1][1] or ''
  redis.call('XTRIM', KEYS[3], 'MINID', ARGV[4])
  -- The stream of a node that is gone goes with its lease.
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
  entries = redis.call('XLEN', KEYS[3])
end
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZRANGE', KEYS[2], 0, -1), known, first, entries}
