-- The administrator who deleted a message for everyone, as a user is shown it. Null if the sender deleted it (strict:
-- nothing is looked up then), or if the user had deleted it before: that tombstone is final.
create or replace function shown_deleter(p_deleted_by uuid, p_conversation uuid, p_seq bigint, p_user uuid) returns uuid
language plpgsql stable strict as $$
begin
    if exists (
        select from hidden h where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = p_seq
    ) then
        return null;
    end if;
    return p_deleted_by;
end $$;
