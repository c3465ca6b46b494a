-- Take entries for a worker: in the order of the streams given, so that higher priorities come first, and no more of a
-- task than its limits leave room for, over all workers.
--
-- KEYS: streams, then the rate counters of the tasks (one for each, in the order of their numbers).
-- ARGV: consumer, how many in all, the number of streams, the number of tasks; for each stream the number of its task
--   (from 1); for each task: its streams' limit of entries that run at a time (-1: none), starts per period (0: no
--   limit), the period in ms.
-- Returns: Redis' time in ms; entries as flat list: number of the stream, id, fields; streams that have no group, by
--   number.
local consumer, total = ARGV[1], tonumber(ARGV[2])
local streams, tasks = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local room, arrivals, interval, taken = {}, {}, {}, {}
local groupless = {}

for task = 1, tasks do
    local at = 4 + streams + (task - 1) * 3
    local limit, starts, period = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    room[task] = total
    taken[task] = 0
    if limit >= 0 then
        -- What runs is what has been taken and not been acknowledged, by anybody.
        for stream = 1, streams do
            if tonumber(ARGV[4 + stream]) == task then
                local pending = redis.pcall('XPENDING', KEYS[stream], 'workers')
                if not pending.err then limit = limit - pending[1] end
            end
        end
        room[task] = math.min(room[task], math.max(limit, 0))
    end
    if starts > 0 then
        -- The generic cell rate algorithm: one number says when all that was let through will have been earned.
        interval[task] = period / starts
        arrivals[task] = math.max(tonumber(redis.call('GET', KEYS[streams + task]) or 0), now)
        local earned = math.floor((now + period - arrivals[task]) / interval[task] + 0.000001)
        room[task] = math.min(room[task], math.max(earned, 0))
    end
end

local entries = {}
for stream = 1, streams do
    local task = tonumber(ARGV[4 + stream])
    local count = math.min(room[task], total)
    if count > 0 then
        local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', count, 'STREAMS', KEYS[stream], '>')
        if reply and reply.err then
            if string.sub(reply.err, 1, 7) == 'NOGROUP' then
                groupless[#groupless + 1] = stream
            else
                return reply
            end
        elseif reply then
            for _, entry in ipairs(reply[1][2]) do
                entries[#entries + 1] = stream
                entries[#entries + 1] = entry[1]
                entries[#entries + 1] = entry[2]
                room[task] = room[task] - 1
                taken[task] = taken[task] + 1
                total = total - 1
            end
        end
    end
end

for task = 1, tasks do
    if interval[task] and taken[task] > 0 then
        local arrival = arrivals[task] + taken[task] * interval[task]
        -- A full Redis does not count; what is there is worked off all the same.
        redis.pcall('SET', KEYS[streams + task], string.format('%.3f', arrival), 'PX', math.ceil(arrival - now) + 1)
    end
end
return {now, entries, groupless}
