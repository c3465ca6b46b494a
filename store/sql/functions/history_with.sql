-- The id of a history, with its timeline (history_id).
create or replace function history_with(p_timeline text) returns text language plpgsql stable parallel safe as $$
declare
    cluster text := '';
begin
    if has_function_privilege('pg_control_system()', 'execute') then
        cluster := (select c.system_identifier::text from pg_control_system() c);
    end if;
    return (
        select concat_ws('/', h.id, p_timeline, h.xmin, d.oid, cluster)
        from history h, pg_database d where d.datname = current_database()
    );
end $$;
