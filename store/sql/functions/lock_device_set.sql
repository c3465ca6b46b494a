-- Puts a change of a user's devices (p_is_change) before or after each joining of that user: the later transaction sees the
-- earlier one. Transactions take this lock before they lock conversations.
create or replace function lock_device_set(p_user uuid, p_is_change boolean) returns void language sql as $$
    select case when p_is_change then pg_advisory_xact_lock(hashtextextended(p_user::text, 2))
                else pg_advisory_xact_lock_shared(hashtextextended(p_user::text, 2)) end;
$$;
