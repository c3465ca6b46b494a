-- Blocking is kept with the contact and, for sends, with the direct conversation. One user's pair is changed by one at a
-- time: who makes their conversation meanwhile takes the same lock (add_direct).
create or replace function lock_pair(p_user uuid, p_other uuid) returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended(least(p_user, p_other)::text || greatest(p_user, p_other)::text, 0));
$$;
