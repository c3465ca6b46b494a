-- Enqueues a job, in the transaction of the commit that it follows from.
--
-- p_key: if a job of this task waits with the same key, that job gets the new payload and keeps its time. If it runs
--     already, it runs again afterwards.
-- p_delay_s: seconds until it is due.
-- p_max_wait_s: not null: the waiting job is debounced. It becomes due p_delay_s from now, but at most p_max_wait_s
--     after it was first enqueued.
create or replace function enqueue(
    p_task text, p_payload jsonb, p_key text default null, p_delay_s float8 default 0, p_max_wait_s float8 default null,
    p_priority int default 1
) returns bigint language sql as $$
    insert into jobs (task, payload, key, due, priority)
    values (p_task, p_payload, p_key, clock_timestamp() + make_interval(secs => p_delay_s), p_priority)
    on conflict (task, key) where key is not null do update
    set version = jobs.version + 1, payload = excluded.payload, is_cancelled = false,
        priority = least(jobs.priority, excluded.priority),
        due = case when p_max_wait_s is null or jobs.is_handed or jobs.claimed_until is not null then jobs.due
                   else least(excluded.due, jobs.created + make_interval(secs => p_max_wait_s)) end
    returning id
$$;
