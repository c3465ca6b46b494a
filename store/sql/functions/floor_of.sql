-- The floor of a participant: the participant may read nothing at or below it. It is the floor of the conversation, or
-- the seq where the participant joined if that is greater.
create or replace function floor_of(c conversations, p participants) returns bigint
language sql immutable parallel safe as $$
    select greatest(c.floor_seq, p.joined_seq)
$$;
