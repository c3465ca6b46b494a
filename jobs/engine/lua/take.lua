-- Take entries for a worker, in the order of the given streams, so that higher priorities come first, and for each task
-- at most what its limits allow over all workers.
--
-- KEYS: streams, then for each task, in the order of their numbers, the list of its last starts, then the set of
--   cancelled jobs.
-- ARGV: consumer, how many may begin at once, the number of streams, the number of tasks; for each stream the number of
--   its task (from 1); for each task: how many of its entries may be pending (-1: no limit), starts per period (0: no
--   limit), the period in ms, and how many more entries may be taken than may begin, if only this task's are taken.
-- Returns: Redis' time in ms; entries as a flat list: number of the stream, id, fields; the numbers of streams without a
--   group; whether any job is cancelled.
local consumer, total = ARGV[1], tonumber(ARGV[2])
local streams, tasks = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local room, ahead, rated, taken = {}, {}, {}, {}
local groupless = {}

for task = 1, tasks do
    local at = 4 + streams + (task - 1) * 4
    local limit, starts, period = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    ahead[task] = tonumber(ARGV[at + 4])
    room[task] = total + ahead[task]
    taken[task] = 0
    if limit >= 0 then
        -- Pending entries, which a worker has taken and not acknowledged, are jobs that run.
        for stream = 1, streams do
            if tonumber(ARGV[4 + stream]) == task then
                local pending = redis.pcall('XPENDING', KEYS[stream], 'workers')
                if not pending.err then limit = limit - pending[1] end
            end
        end
        room[task] = math.min(room[task], math.max(limit, 0))
    end
    if starts > 0 then
        local key = KEYS[streams + task]
        local last = tonumber(redis.call('LINDEX', key, -1) or 0)
        -- The last start is in the future: the clock went back.
        if last > now + 1000 then redis.call('DEL', key) end
        while tonumber(redis.call('LINDEX', key, 0) or now) <= now - period do redis.call('LPOP', key) end
        rated[task] = period
        room[task] = math.min(room[task], math.max(starts - redis.call('LLEN', key), 0))
    end
end

local entries = {}
-- Once an entry of a slow task is taken, none may wait behind it.
local most_ahead = math.huge
for stream = 1, streams do
    local task = tonumber(ARGV[4 + stream])
    local count = math.min(room[task], total + math.min(ahead[task], most_ahead) - #entries / 3)
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
            end
            most_ahead = math.min(most_ahead, ahead[task])
        end
    end
end

for task = 1, tasks do
    if rated[task] and taken[task] > 0 then
        local key = KEYS[streams + task]
        -- A full Redis refuses to count; workers take the entries all the same.
        for _ = 1, taken[task] do redis.pcall('RPUSH', key, now) end
        redis.call('PEXPIRE', key, rated[task])
    end
end
return {now, entries, groupless, redis.call('EXISTS', KEYS[#KEYS])}
