-- The seq up to which a participant may read nothing: the conversation's floor, or the seq at which the participant joined if
-- that is greater.
create or replace function floor_of(c conversations, p participants) returns bigint language sql immutable parallel safe as $$
    select greatest(c.floor_seq, p.joined_seq)
$$;
