-- The participants whose devices hold a message or may read it: they are told when it changes, and of the message itself
-- if its push was lost.
--
-- c, m: a conversation and one of its messages. Users who have deleted the message for themselves are told a tombstone
--     alone (hiders_of), and only the sender knows a silent message.
--
-- Postgres inlines this function: a query looks up only the participants that it asks for.
create or replace function holders_of(c conversations, m messages) returns table (user_id uuid, joined timestamptz)
language sql stable parallel safe as $$
    select p.user_id, p.joined from participants p
    where p.conversation_id = c.id and m.seq > floor_of(c, p) and (p.user_id = m.sender_id or not m.is_silent)
      and not exists (
          select from hidden h where h.user_id = p.user_id and h.conversation_id = c.id and h.seq = m.seq
      )
$$;
