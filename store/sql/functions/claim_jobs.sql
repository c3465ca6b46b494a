-- A worker begins to run jobs. Nothing waits for the commit of this function, of beat_jobs() and of end_jobs(): if
-- Postgres loses it in a crash, the jobs run again.
--
-- Returns a row for each id, in the order given.
-- outcome:
--   'claimed'
--   'busy': another worker runs it. Its entry in Redis may be gone, so the job is due when that claim ends
--   'early': it waits for another attempt, and becomes due by itself
--   'gone': it has ended, or was cancelled after its worker had died
-- now_ms: the time of Postgres, in milliseconds since 1970.
create or replace function claim_jobs(p_ids bigint[], p_worker text, p_claim_ms bigint) returns table (
    id bigint, outcome text, task text, payload bytea, version bigint, attempt bigint, priority bigint, now_ms bigint
) language plpgsql as $$
begin
    set local synchronous_commit = off;
    return query
    with locked as (
        select j.id, case when coalesce(j.claimed_until, '-infinity') >= clock_timestamp() then 'busy'
                          when j.is_cancelled then 'gone'
                          when not j.is_handed and j.due > clock_timestamp() then 'early'
                          else 'claimed' end as outcome
        from jobs j where j.id = any(p_ids) order by j.id for update
    ), claimed as (
        update jobs j
        set attempt = j.attempt + 1, claimed_by = p_worker,
            claimed_until = clock_timestamp() + p_claim_ms * interval '1 ms'
        from locked where j.id = locked.id and locked.outcome = 'claimed'
        returning j.id, j.task, j.payload, j.version, j.attempt, j.priority
    ), watched as (
        update jobs j set due = j.claimed_until
        from locked where j.id = locked.id and locked.outcome = 'busy' and j.due > j.claimed_until
    ), unwanted as (
        delete from jobs j using locked where j.id = locked.id and locked.outcome = 'gone'
    )
    select i.id, coalesce(l.outcome, 'gone'),
           c.task, convert_to(c.payload::text, 'UTF8'), c.version::bigint, c.attempt::bigint, c.priority::bigint,
           (extract(epoch from clock_timestamp()) * 1000)::bigint
    from unnest(p_ids) with ordinality as i(id, n)
    left join locked l on l.id = i.id
    left join claimed c on c.id = i.id
    order by i.n;
end $$;
