-- Whether a snapshot does not see what a transaction wrote. False for null, which means that nothing was written.
create or replace function unseen(p_changed xid8, p_snapshot pg_snapshot) returns boolean
language sql immutable parallel safe as $$
    select coalesce(not pg_visible_in_snapshot(p_changed, p_snapshot), false)
$$;
