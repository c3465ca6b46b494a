-- The participants who have deleted a message for themselves: their devices are told a tombstone of it, and nothing else
-- (holders_of).
--
-- c, m: a conversation and one of its messages.
--
-- Postgres inlines this function: a query looks up only the participants that it asks for.
create or replace function hiders_of(c conversations, m messages) returns table (user_id uuid)
language sql stable parallel safe as $$
    select p.user_id from hidden h
    join participants p on p.conversation_id = h.conversation_id and p.user_id = h.user_id
    where h.conversation_id = c.id and h.seq = m.seq and m.seq > floor_of(c, p)
$$;
