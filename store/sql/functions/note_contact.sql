-- Whom a user knows or blocks is another: the devices of that user are to be told.
create or replace function note_contact() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old is not distinct from new then
        return null;
    end if;
    update users u set contacts_revision = u.contacts_revision + 1, own_changed = pg_current_xact_id()
    where u.id = case when tg_op = 'DELETE' then old.user_id else new.user_id end;
    return null;
end $$;

create or replace trigger contacts_changed after insert or update or delete on contacts for each row
execute function note_contact();
