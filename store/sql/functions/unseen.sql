-- Whether a snapshot does not see what a transaction wrote; what is older than such numbers, everybody has seen.
create or replace function unseen(p_changed xid8, p_snapshot pg_snapshot) returns boolean language sql immutable parallel safe as $$
    select coalesce(not pg_visible_in_snapshot(p_changed, p_snapshot), false)
$$;
