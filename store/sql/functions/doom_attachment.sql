-- An attachment that loses its message is removed, however young it is.
create or replace function doom_attachment() returns trigger language plpgsql as $$
begin
    new.doomed := clock_timestamp();
    return new;
end $$;

create or replace trigger attachments_detached before update of conversation_id on attachments
for each row when (old.conversation_id is not null and new.conversation_id is null) execute function doom_attachment();
