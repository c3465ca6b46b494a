-- An attachment that loses its message is orphaned at once, however young it is.
create or replace function mark_orphaned() returns trigger language plpgsql as $$
begin
    new.orphaned := clock_timestamp();
    return new;
end $$;

create or replace trigger attachments_orphaned before update of conversation_id on attachments
for each row when (old.conversation_id is not null and new.conversation_id is null) execute function mark_orphaned();
