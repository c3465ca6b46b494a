-- Whether a message that lies above a user's mark can wait for the user: it is another one's, and is gone neither for
-- everyone nor for this user.
create or replace function is_waiting(m messages, p_user uuid) returns boolean language sql stable parallel safe as $$
    select m.deleted is null and not m.is_silent and m.sender_id <> p_user and not exists (
        select from hidden h where h.user_id = p_user and h.conversation_id = m.conversation_id and h.seq = m.seq)
$$;
