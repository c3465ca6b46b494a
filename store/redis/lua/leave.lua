-- Remove a node from the entries of users.
--
-- KEYS: the table, such as the directory. ARGV: the node, then the users.
for i = 2, #ARGV do
  local held = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local kept = ''
  for at = 1, #held, 8 do
    local node = string.sub(held, at, at + 7)
    if node ~= ARGV[1] then kept = kept .. node end
  end
  if kept == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], kept) end
end
return #ARGV - 1
