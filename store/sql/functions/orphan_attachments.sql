-- A message that is deleted for everyone loses its attachments. Sends and edits do not name the column, and are spared.
create or replace function orphan_attachments() returns trigger language plpgsql as $$
begin
    update attachments a set conversation_id = null, seq = null
    where a.conversation_id = new.conversation_id and a.seq = new.seq;
    return null;
end $$;

create or replace trigger messages_orphan after update of deleted on messages
for each row when (old.deleted is null and new.deleted is not null) execute function orphan_attachments();
