-- A user has other quiet hours: the devices of that user are to be told.
create or replace function note_quiet_hours() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old is not distinct from new then
        return null;
    end if;
    update users u set settings_revision = u.settings_revision + 1, own_changed = pg_current_xact_id()
    where u.id = case when tg_op = 'DELETE' then old.user_id else new.user_id end;
    return null;
end $$;

create or replace trigger quiet_hours_changed after insert or update or delete on quiet_hours for each row
execute function note_quiet_hours();
