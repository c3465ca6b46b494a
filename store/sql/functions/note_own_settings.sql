-- A user has set something for themselves: the devices of that user are to be told. What else is set in users stands here, too.
create or replace function note_own_settings() returns trigger language plpgsql as $$
begin
    new.settings_revision := old.settings_revision + 1;
    new.own_changed := pg_current_xact_id();
    return new;
end $$;

create or replace trigger users_own_settings before update on users for each row
when ((old.gives_receipts, old.shows_presence, old.messages_from, old.groups_from)
      is distinct from (new.gives_receipts, new.shows_presence, new.messages_from, new.groups_from))
execute function note_own_settings();
