-- Gives a conversation the next version of its list of participants, or of its settings. Returns the users who get its
-- messages.
create or replace function note_participants(p_conversation uuid) returns uuid[] language sql as $$
    update conversations
    set participants_version = participants_version + 1, recipients_version = recipients_version + 1,
        changed = pg_current_xact_id(), participants_changed = pg_current_xact_id()
    where id = p_conversation;
    select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation;
$$;
