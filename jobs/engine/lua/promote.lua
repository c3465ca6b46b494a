-- Move delayed volatile jobs that are due to their streams.
--
-- KEYS: the sorted set of delayed jobs, then the streams that this worker knows; a job of another goes to its stream,
--   too, which is in the same slot. ARGV: the prefix of the streams' names, how many to move at most.
-- Returns: how many jobs moved, and in how many ms the next is due (-1: none waits).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, job in ipairs(due) do
    -- task, priority, then the entry's fields, all in one list
    local is_ours, parts = pcall(cmsgpack.unpack, job)
    if is_ours and type(parts) == 'table' and #parts > 2 then
        local command = {'XADD', ARGV[1] .. parts[1] .. ':' .. parts[2], '*'}
        for n = 3, #parts do command[n + 1] = parts[n] end
        redis.call(unpack(command))
    end
    redis.call('ZREM', KEYS[1], job)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next == 0 then return {#due, -1} end
return {#due, math.max(0, math.ceil(tonumber(next[2]) - now))}
