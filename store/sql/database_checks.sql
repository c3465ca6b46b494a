-- name: server
-- The server, its settings that the promises depend on, and this connection to it.
select current_setting('server_version_num')::bigint, current_setting('server_version'),
       current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync') = 'on',
       current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'),
       current_setting('autovacuum') = 'on', current_setting('max_connections')::bigint,
       (select count(*) from pg_stat_activity a where a.backend_type = 'client backend'),
       (select s.setting from pg_settings s where s.name = 'data_directory'),
       host(inet_server_addr()),
       coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false);

-- name: schema
-- Whether tables of this product are there, and which numbered files and sets of functions were applied.
select to_regclass('public.migrations') is not null;

-- name: role
-- The rights of this role. Tables, sequences and functions that it cannot use as the processes do.
select current_user::text, r.rolsuper, pg_has_role('pg_read_all_stats', 'usage'),
       array(select c.relname::text from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
               and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
                        and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))
             order by 1),
       array(select c.relname::text from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind = 'S'
               -- Postgres may ask for the right before the kind, and fails for what is no sequence.
               and case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') else false end
             order by 1),
       array(select p.proname::text from pg_proc p
             where p.pronamespace = 'public'::regnamespace and not has_function_privilege(p.oid, 'execute')
             order by 1)
from pg_roles r where r.rolname = current_user;

-- name: indexes
-- All indexes, and whether Postgres uses them.
select c.relname::text, i.indisvalid and i.indisready
from pg_index i join pg_class c on c.oid = i.indexrelid
where c.relnamespace = 'public'::regnamespace;

-- name: constraints
-- Constraints that Postgres has not checked for all rows.
select n.conname::text, c.relname::text
from pg_constraint n join pg_class c on c.oid = n.conrelid
where n.connamespace = 'public'::regnamespace and not n.convalidated order by 1;

-- name: transactions
-- Transactions of clients that began long ago: process, program, state, and for how many seconds.
select a.pid::bigint, coalesce(a.application_name, ''), coalesce(a.state, ''),
       extract(epoch from clock_timestamp() - a.xact_start)::float8
from pg_stat_activity a
where a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  and a.xact_start < clock_timestamp() - make_interval(secs => %(than_s)s)
order by a.xact_start limit 5;

-- name: answer
-- A sign of life.
select 1;

-- name: blockers
-- Sessions that hold a lock for which others wait, and that wait for no lock themselves: process, program, state, for how
-- many seconds their transaction has been under way, and how many wait. Process 0 is a prepared transaction. A role
-- without pg_read_all_stats is told no state and no age of other roles' sessions.
select by.pid::bigint, coalesce(a.application_name, ''), coalesce(a.state, ''),
       extract(epoch from clock_timestamp() - min(a.xact_start))::float8, count(distinct w.pid)
from pg_stat_activity w
cross join lateral unnest(pg_blocking_pids(w.pid)) by(pid)
left join pg_stat_activity a on a.pid = by.pid
where w.backend_type = 'client backend' and w.wait_event_type = 'Lock' and a.wait_event_type is distinct from 'Lock'
  and coalesce(a.xact_start < clock_timestamp() - make_interval(secs => %(than_s)s), true)
group by 1, 2, 3 order by 5 desc, 1 limit 5;

-- name: long_waits
-- What statements of clients have waited for, other than locks and their clients: how many, and the longest in seconds.
select concat_ws(':', w.wait_event_type, w.wait_event), count(*),
       max(extract(epoch from clock_timestamp() - w.query_start))::float8
from pg_stat_activity w
where w.backend_type = 'client backend' and w.state = 'active' and w.pid <> pg_backend_pid()
  and w.wait_event_type not in ('Lock', 'Client', 'Timeout', 'Extension')
  and w.query_start < clock_timestamp() - make_interval(secs => %(than_s)s)
group by 1 order by 2 desc, 1 limit 5;

-- name: prepared
-- Prepared transactions, which hold back the horizon of the whole cluster: name, database, and for how many seconds.
select p.gid, p.database::text, extract(epoch from clock_timestamp() - p.prepared)::float8
from pg_prepared_xacts p order by p.prepared limit 5;

-- name: slots
-- Replication slots: whether they are in use, how many bytes of WAL they keep, how old the rows are that they keep, and
-- whether their WAL is there.
select s.slot_name::text, s.active,
       coalesce(pg_wal_lsn_diff(
           case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, s.restart_lsn), 0
       )::bigint, coalesce(greatest(age(s.xmin), age(s.catalog_xmin)), 0)::bigint, coalesce(s.wal_status, '')
from pg_replication_slots s order by 1;

-- name: replicas
-- Standbys: state, kind, and how far each is behind.
select coalesce(r.application_name, ''), coalesce(r.state, ''), coalesce(r.sync_state, ''),
       coalesce(pg_wal_lsn_diff(r.sent_lsn, r.replay_lsn), 0)::bigint,
       coalesce(extract(epoch from r.replay_lag), 0)::float8
from pg_stat_replication r order by 1;

-- name: horizon
-- The age, in transactions, of the oldest rows of a database and of the oldest snapshot; and the age when Postgres
-- freezes rows by itself.
select (select max(age(d.datfrozenxid)) from pg_database d)::bigint,
       coalesce((select max(age(a.backend_xmin)) from pg_stat_activity a), 0)::bigint,
       current_setting('autovacuum_freeze_max_age')::bigint;
