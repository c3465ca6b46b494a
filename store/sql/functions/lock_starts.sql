-- What one user begins (conversations, places in groups), and others' blocking of that user, come one after the other: whoever
-- comes second sees the first. What they begin themselves need not wait for each other.
create or replace function lock_starts(p_user uuid, p_is_blocking boolean) returns void language sql as $$
    select case when p_is_blocking then pg_advisory_xact_lock(hashtextextended(p_user::text, 1))
                else pg_advisory_xact_lock_shared(hashtextextended(p_user::text, 1)) end;
$$;
