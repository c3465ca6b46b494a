-- Records the ends of runs. If a job with the same key was enqueued since the run began, the job is due again, whatever
-- the outcome.
--
-- p_versions: the version of each job when its run began.
-- p_outcomes:
--   'done'
--   'cancelled'
--   'dead': with p_reasons and p_tracebacks
--   'lost': dead by the run before this one
--   'retry': again after p_delays_ms
--   'snoozed': the same, and the run does not count as an attempt
create or replace function end_jobs(
    p_ids bigint[], p_versions bigint[], p_outcomes text[], p_delays_ms bigint[], p_reasons text[],
    p_tracebacks text[], p_worker text
) returns void language plpgsql as $$
begin
    set local synchronous_commit = off;
    perform 1 from jobs j where j.id = any(p_ids) order by j.id for update;
    with ended as (
        select j.id, e.outcome, e.delay_ms, e.reason, e.traceback, j.task, j.payload, j.key, j.priority, j.attempt,
               j.created, j.version > e.version as has_more, j.is_cancelled
        from unnest(p_ids, p_versions, p_outcomes, p_delays_ms, p_reasons, p_tracebacks)
            as e(id, version, outcome, delay_ms, reason, traceback)
        join jobs j on j.id = e.id
        -- A worker that has lost a job to another worker may say that it is done, and nothing else.
        where e.outcome = 'done' or j.claimed_by = p_worker
    ), buried as (
        insert into dead_jobs (id, task, payload, key, priority, attempts, reason, traceback, enqueued)
        select e.id, e.task, e.payload, e.key, e.priority, e.attempt - (e.outcome = 'lost')::int, e.reason,
               e.traceback, e.created
        from ended e where e.outcome in ('dead', 'lost')
        on conflict (id) do nothing
    ), gone as (
        delete from jobs j using ended e
        where j.id = e.id and not e.has_more
          and (e.outcome in ('done', 'cancelled', 'dead', 'lost') or e.is_cancelled)
    )
    update jobs j
    set is_handed = false, claimed_until = null, claimed_by = null,
        due = clock_timestamp() + case when e.outcome in ('retry', 'snoozed') then e.delay_ms else 0 end
                                  * interval '1 ms',
        attempt = case e.outcome when 'retry' then j.attempt when 'snoozed' then j.attempt - 1 else 0 end,
        created = case when e.has_more then clock_timestamp() else j.created end,
        is_cancelled = false,
        -- A dead job keeps its id, so the job that goes on gets a new one.
        id = case when e.outcome in ('dead', 'lost') then nextval('jobs_id_seq') else j.id end
    from ended e
    where j.id = e.id and (e.has_more or e.outcome in ('retry', 'snoozed') and not e.is_cancelled);
end $$;
