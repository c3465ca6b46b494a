-- As enqueue(), for a caller that hands the job to Redis: a new job that is due now counts as handed for p_lease_s
-- seconds, unless that is null.
-- is_handed: whether the caller is to hand it to Redis.
create or replace function enqueue_at_once(
    p_task text, p_payload jsonb, p_key text, p_delay_s float8, p_max_wait_s float8, p_priority int, p_lease_s float8,
    out id bigint, out is_handed boolean
) language plpgsql as $$
begin
    id := enqueue(p_task, p_payload, p_key, p_delay_s, p_max_wait_s, p_priority);
    update jobs j set is_handed = true, due = clock_timestamp() + make_interval(secs => p_lease_s)
    where j.id = enqueue_at_once.id and j.version = 1 and p_delay_s = 0 and p_lease_s is not null;
    is_handed := found;
end $$;
