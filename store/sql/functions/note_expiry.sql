-- A new conversation gets its row in expiries.
create or replace function note_expiry() returns trigger language plpgsql as $$
begin
    insert into expiries (conversation_id, oldest) values (new.id, new.created) on conflict do nothing;
    return null;
end $$;

create or replace trigger conversations_expiry after insert on conversations
for each row execute function note_expiry();
