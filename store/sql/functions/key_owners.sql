-- The users, among some, whose devices a user may see with their identities and keys: the user, users who have the user as
-- a contact, and users who share a conversation with the user. Postgres inlines this function.
--
-- is_reached: what the user sends may reach them. False: they block the user, or only seem to take part (withheld). The
--     user must not notice, so they are listed as before, and the user's claims use up none of their keys.
create or replace function key_owners(p_user uuid, p_users uuid[]) returns table (user_id uuid, is_reached boolean)
language sql stable parallel safe as $$
    select known.id, known.is_acquainted and not coalesce((
        select true from contacts k where k.user_id = known.id and k.contact_id = p_user and k.is_blocked limit 1
    ), false)
    from (
        select given.id, given.id = p_user or coalesce(
            (select true from contacts k where k.user_id = given.id and k.contact_id = p_user and k.is_contact limit 1),
            -- Most users ask for the devices of the other user of a direct conversation, which has a key.
            (
                select true from conversations c
                join participants me on me.conversation_id = c.id and me.user_id = p_user
                join participants p on p.conversation_id = c.id and p.user_id = given.id
                where c.direct_low = least(p_user, given.id) and c.direct_high = greatest(p_user, given.id) limit 1
            ), (
                select true from participants me
                join participants p on p.conversation_id = me.conversation_id and p.user_id = given.id
                where me.user_id = p_user limit 1
            ), false) as is_acquainted
        from (select distinct unnest(p_users)) given(id)
    ) known
    -- Scalar queries with a limit: Postgres would look for all users at once in place of those of an `exists`.
    where known.is_acquainted or coalesce((
        select true from withheld w
        join participants me on me.conversation_id = w.conversation_id and me.user_id = p_user
        where w.user_id = known.id limit 1
    ), false)
$$;
