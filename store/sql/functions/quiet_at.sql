-- How many of a conversation's messages up to p_seq are quiet; null: not known, since p_seq lies below the floor. Looks at
-- messages only if some are quiet and some come after p_seq. Postgres inlines this function, so that most conversations
-- cost no call.
create or replace function quiet_at(c conversations, p_seq bigint) returns bigint
language sql stable parallel safe as $$
    select case when c.quiet_count = 0 then 0 when p_seq >= c.last_seq then c.quiet_count
                else quiet_upto(c.id, p_seq) end
$$;
