-- The users whose devices hold a message or may read it: they are told when it changes. Users who have deleted it for
-- themselves have their tombstone already, and only its sender knows a silent message.
create or replace function holders_of(m messages) returns uuid[] language sql stable as $$
    select case when m.is_silent then array[m.sender_id] else array(
        select p.user_id from participants p
        where p.conversation_id = m.conversation_id and p.joined_seq < m.seq and not exists (
            select from hidden h
            where h.user_id = p.user_id and h.conversation_id = m.conversation_id and h.seq = m.seq)
    ) end
$$;
