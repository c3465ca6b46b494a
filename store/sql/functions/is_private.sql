-- Whether a participant shows no marks to the others: in a request, and in a direct conversation while one of the two
-- blocks the other.
create or replace function is_private(c conversations, p participants) returns boolean
language sql immutable parallel safe as $$
    select p.asked_by is not null or c.low_blocks or c.high_blocks
$$;
