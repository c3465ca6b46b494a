-- name: end
-- Ends some backends of this server. A row for each that is still there: its number, when it began, and whether it was
-- signalled. The start time tells it from a later process with the same number.
select given.pid, given.began, pg_terminate_backend(a.pid)
from unnest(%(pid)s::bigint[], %(began)s::bigint[]) given(pid, began)
join pg_stat_activity a on a.pid = given.pid and (extract(epoch from a.backend_start) * 1000000)::bigint = given.began;
