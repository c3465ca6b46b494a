-- The id of the history that numbers of transactions in cursors belong to. Each part changes with:
-- * the id: `python -m store restored`;
-- * the timeline: each fail-over, and each recovery to a point in time;
-- * the transaction that wrote the row: a dump that is restored, also into the same database;
-- * the database's oid: a database that is dropped and created;
-- * the cluster's system identifier: another cluster (a role that may not read it does without).
create or replace function history_id() returns text language plpgsql stable parallel safe as $$
declare
    cluster text := '';
begin
    if has_function_privilege('pg_control_system()', 'execute') then
        cluster := (select c.system_identifier::text from pg_control_system() c);
    end if;
    return (
        select concat_ws('/', h.id, left(pg_walfile_name(pg_current_wal_lsn()), 8), h.xmin, d.oid, cluster)
        from history h, pg_database d where d.datname = current_database()
    );
end $$;
