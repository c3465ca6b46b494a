-- name: end
-- Have some processes of this server ended: those that are still there, each with its number and when it began, and whether it
-- could be told. Another process may have the number of one that has ended, and is left alone.
select given.pid, given.began, pg_terminate_backend(a.pid)
from unnest(%(pid)s::bigint[], %(began)s::bigint[]) given(pid, began)
join pg_stat_activity a on a.pid = given.pid and (extract(epoch from a.backend_start) * 1000000)::bigint = given.began;
