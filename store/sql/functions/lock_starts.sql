-- Puts what a user begins (conversations, places in groups) before or after other users' blocking of that user: the
-- later transaction sees the earlier one. What the user begins themselves does not wait for each other.
-- p_is_blocking: true for an exclusive lock, false for a shared one.
create or replace function lock_starts(p_user uuid, p_is_blocking boolean) returns void language sql as $$
    select case when p_is_blocking then pg_advisory_xact_lock(hashtextextended(p_user::text, 1))
                else pg_advisory_xact_lock_shared(hashtextextended(p_user::text, 1)) end;
$$;
