-- Whether a user blocks the other user of a direct conversation. Such a participant shows no marks to the other.
create or replace function is_blocker(c conversations, p_user uuid) returns boolean
language sql immutable parallel safe as $$
    select coalesce(c.low_blocks and p_user = c.direct_low or c.high_blocks and p_user = c.direct_high, false)
$$;
