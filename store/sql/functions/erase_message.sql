-- A message is deleted for everyone: its content is erased, and a tombstone stays. Participants who had deleted it for
-- themselves have their tombstone already. The caller has locked the conversation, and knows that the message is not
-- deleted.
--
-- p_by: the administrator who deletes it; null: its sender does.
-- Returns the users to tell.
create or replace function erase_message(c conversations, m messages, p_by uuid) returns uuid[] language plpgsql as $$
declare
    told uuid[];
begin
    update messages e
    set content_type = '', content = '', nonce = null, ephemeral_public_key = null, attachments = null,
        thumbnail = null, device_id = null, deleted = clock_timestamp(), deleted_by = p_by
    where e.conversation_id = c.id and e.seq = m.seq;
    if m.has_envelopes then
        delete from envelopes e where e.conversation_id = c.id and e.seq = m.seq;
    end if;
    perform note_revision(c.id, m.seq);
    told := array(select h.user_id from holders_of(c, m) h);
    -- For all other participants it did not count as unread before; nor did a quiet one for any.
    if not m.is_quiet then
        perform note_uncounted(c.id, m.seq, told);
    end if;
    return told;
end $$;
