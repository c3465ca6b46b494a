-- name: end
-- Ends some backends of this server. A row for each that is still there: its number, when it began, and whether it was
-- signalled. The start time tells it from a later process with the same number.
select given.pid, given.began, pg_terminate_backend(a.pid)
from unnest(%(pid)s::bigint[], %(began)s::bigint[]) given(pid, began)
join pg_stat_activity a on a.pid = given.pid and (extract(epoch from a.backend_start) * 1000000)::bigint = given.began;

-- name: waits
-- What some backends wait for, and which processes hold the lock, by their names. A prepared transaction has no process.
-- A user without pg_read_all_stats is told no state and no age of other users' processes.
select w.pid::bigint, concat_ws(':', w.wait_event_type, w.wait_event), held.blockers, held.held_s
from unnest(%(pid)s::bigint[]) given(pid)
join pg_stat_activity w on w.pid = given.pid and w.state = 'active'
cross join lateral (
    select coalesce(array_agg(
               case when by.pid = 0 then 'a prepared transaction'
                    else concat(coalesce(nullif(a.application_name, ''), 'no name'), ' (pid ', by.pid,
                                ', ' || a.state, ')') end
               order by by.pid), '{}') as blockers,
           max(extract(epoch from clock_timestamp() - a.xact_start))::float8 as held_s
    from unnest(pg_blocking_pids(w.pid)) by(pid)
    left join pg_stat_activity a on a.pid = by.pid
) held;
