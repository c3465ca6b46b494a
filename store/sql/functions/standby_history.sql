-- The id of the history that a standby follows, as history_id tells it on the primary. Null: this server is no
-- standby, or its role may not ask. The timeline is that of the last restart point, so after a fail-over a standby names
-- the former history for some minutes.
create or replace function standby_history() returns text language plpgsql stable as $$
begin
    if not pg_is_in_recovery() or not has_function_privilege('pg_control_checkpoint()', 'execute') then
        return null;
    end if;
    return (select history_with(lpad(upper(to_hex(c.timeline_id)), 8, '0')) from pg_control_checkpoint() c);
end $$;
