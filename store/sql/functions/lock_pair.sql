-- Makes changes about one pair of users wait for each other. A block is stored with the contact and, for sends, with
-- the direct conversation: set_blocked() and add_direct() both take this lock.
create or replace function lock_pair(p_user uuid, p_other uuid) returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended(least(p_user, p_other)::text || greatest(p_user, p_other)::text, 0));
$$;
