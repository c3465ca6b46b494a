-- Counts and stamps a change of what a user has set in a table of its own, so that the user's devices are told. The
-- argument of the trigger names the revision that grows. Settings in users: note_own_settings().
create or replace function note_set_beside() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old is not distinct from new then
        return null;
    end if;
    update users u
    set contacts_revision = u.contacts_revision + (tg_argv[0] = 'contacts')::int,
        settings_revision = u.settings_revision + (tg_argv[0] = 'settings')::int, own_changed = pg_current_xact_id()
    where u.id = case when tg_op = 'DELETE' then old.user_id else new.user_id end;
    return null;
end $$;

create or replace trigger contacts_changed after insert or update or delete on contacts for each row
execute function note_set_beside('contacts');

create or replace trigger quiet_hours_changed after insert or update or delete on quiet_hours for each row
execute function note_set_beside('settings');
