-- The id of the history that numbers of transactions in cursors belong to. Each part changes with:
-- * the id: `python -m store restored`;
-- * the timeline: each fail-over, and each recovery to a point in time;
-- * the transaction that wrote the row: a dump that is restored, also into the same database;
-- * the database's oid: a database that is dropped and created;
-- * the cluster's system identifier: another cluster (a role that may not read it does without).
-- A standby refuses it: a snapshot made there leaves out transactions under way, and a cursor of it would lose messages.
create or replace function history_id() returns text language sql stable parallel safe as $$
    select history_with(left(pg_walfile_name(pg_current_wal_lsn()), 8))
$$;
