-- Add a node to the entries of users, and remove nodes that are gone from them.
--
-- KEYS: the table, such as the directory; the leases of nodes. ARGV: the node, then the users.
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local kept = ARGV[1]
  for at = 1, #held, 8 do
    local node = string.sub(held, at, at + 7)
    if node ~= ARGV[1] and redis.call('ZSCORE', KEYS[2], node) then kept = kept .. node end
  end
  redis.call('HSET', KEYS[1], ARGV[i], kept)
end
return #ARGV - 1
