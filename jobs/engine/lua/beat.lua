-- Keep a worker's entries: the idle time of each begins again. An entry that another worker has taken over stays with it.
--
-- KEYS: the set of cancelled jobs, then the stream of each entry. ARGV: consumer; for each entry its id, and the id of
--   its job if that is volatile, else ''.
-- Returns: a number for each entry: 1 this worker still has it, 0 it does not, 2 its job was cancelled.
local consumer = ARGV[1]
local answers = {}
local some_cancelled = redis.call('EXISTS', KEYS[1]) == 1
for n = 1, #KEYS - 1 do
    local key, id, job = KEYS[n + 1], ARGV[2 * n], ARGV[2 * n + 1]
    local pending = redis.pcall('XPENDING', key, 'workers', id, id, 1)
    if not pending.err and pending[1] and pending[1][2] == consumer then
        redis.call('XCLAIM', key, 'workers', consumer, 0, id, 'JUSTID')
        answers[n] = some_cancelled and job ~= '' and redis.call('ZSCORE', KEYS[1], job) and 2 or 1
    else
        answers[n] = 0
    end
end
return answers
