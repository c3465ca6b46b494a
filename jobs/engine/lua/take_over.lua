-- Take entries over from workers that missed their heartbeats. Acknowledge pending entries that are deleted, and remove
-- workers that are gone.
--
-- KEYS: streams. ARGV: consumer, idle time of an entry in ms, how many to take at most, idle time of a dead worker in ms.
-- Returns: a flat list: number of the stream, id, fields, how often the entry has been taken.
local consumer, idle, left, dead = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local entries = {}

for stream, key in ipairs(KEYS) do
    local pending = {}
    if left > 0 then
        pending = redis.pcall('XPENDING', key, 'workers', 'IDLE', idle, '-', '+', left)
        if pending.err then pending = {} end
    end
    for _, each in ipairs(pending) do
        -- id, consumer, idle time, how often the entry has been taken
        local found = redis.call('XRANGE', key, each[1], each[1])
        if #found == 0 then
            redis.call('XACK', key, 'workers', each[1])
        else
            redis.call('XCLAIM', key, 'workers', consumer, idle, each[1])
            entries[#entries + 1] = stream
            entries[#entries + 1] = each[1]
            entries[#entries + 1] = found[1][2]
            entries[#entries + 1] = each[4] + 1
            left = left - 1
        end
    end
    local consumers = redis.pcall('XINFO', 'CONSUMERS', key, 'workers')
    if not consumers.err then
        for _, each in ipairs(consumers) do
            -- 'name', its value, 'pending', its value, 'idle', its value
            if each[4] == 0 and each[6] > tonumber(dead) and each[2] ~= consumer then
                redis.call('XGROUP', 'DELCONSUMER', key, 'workers', each[2])
            end
        end
    end
end
return entries
