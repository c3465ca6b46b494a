-- A worker says that it still runs these jobs, and keeps its claims for p_claim_ms more. Returns the jobs that are
-- still its own, and whether each is to be stopped.
create or replace function beat_jobs(p_ids bigint[], p_worker text, p_claim_ms bigint) returns table (
    id bigint, is_cancelled boolean
) language plpgsql as $$
begin
    set local synchronous_commit = off;
    return query
    with locked as (
        select j.id from jobs j where j.id = any(p_ids) and j.claimed_by = p_worker order by j.id for update
    )
    update jobs j set claimed_until = clock_timestamp() + p_claim_ms * interval '1 ms'
    from locked where j.id = locked.id
    returning j.id, j.is_cancelled;
end $$;
