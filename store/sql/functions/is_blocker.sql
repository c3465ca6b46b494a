-- Whether a participant shows nobody how far the messages of the other one have come: in a direct conversation with
-- somebody whom they block.
create or replace function is_blocker(c conversations, p_user uuid) returns boolean language sql immutable parallel safe as $$
    select coalesce(c.low_blocks and p_user = c.direct_low or c.high_blocks and p_user = c.direct_high, false)
$$;
