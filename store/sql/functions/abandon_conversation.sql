-- No user takes part in a conversation any longer, as it is shown, or none that is not deleted: no user can read its
-- messages, and the next run of retention deletes them. They are not archived. The state of its
-- cryptography goes at once. The caller has locked the conversation.
create or replace function abandon_conversation(p_conversation uuid) returns void language sql as $$
    delete from group_states s where s.conversation_id = p_conversation;
    update conversations c set floor_seq = c.last_seq, floor_changed = pg_current_xact_id()
    where c.id = p_conversation and c.floor_seq < c.last_seq;
    update expiries e
    set is_cleared = false, is_announced = true, wants_archive = e.wants_archive and not e.is_cleared
    where e.conversation_id = p_conversation;
$$;
