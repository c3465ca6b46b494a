-- Counts and stamps a change of a user's own settings in the table users, so that the user's devices are told. A new
-- setting in users is added to the condition of the trigger.
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
