-- The number of a user's unread messages, as the list of conversations shows them, and of conversations that have any.
-- Requests and conversations that want no notices do not count.
create or replace function unread_of(p_user uuid, out unread bigint, out conversations bigint) language sql stable as $$
    select coalesce(sum(n), 0)::bigint, count(*) from participants me
    -- The limit makes Postgres look up each by its key. Without it, a plan made for few conversations reads them all.
    cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
    cross join lateral (select unread_count(c, me) as n) counted
    where me.user_id = p_user and n > 0 and me.asked_by is null and wants_notices(me)
$$;
