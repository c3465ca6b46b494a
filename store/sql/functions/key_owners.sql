-- The users, among some, whose devices a user may see with their identities and keys: the user, users who have the user as
-- a contact, and users who share a conversation with the user. Postgres inlines this function.
--
-- is_reached: what the user sends may reach them. False: they block the user, or only seem to take part (withheld). The
--     user must not notice, so they are listed as before, and the user's claims use up none of their keys.
create or replace function key_owners(p_user uuid, p_users uuid[]) returns table (user_id uuid, is_reached boolean)
language sql stable parallel safe as $$
    select known.id, not known.is_blocker and (known.id = p_user or known.has_contact or known.shares)
    from (
        select given.id,
               exists (
                   select from contacts k where k.user_id = given.id and k.contact_id = p_user and k.is_blocked
               ) as is_blocker,
               exists (
                   select from contacts k where k.user_id = given.id and k.contact_id = p_user and k.is_contact
               ) as has_contact,
               -- Most users ask for the devices of the other user of a direct conversation, which has a key.
               exists (
                   select from conversations c
                   join participants me on me.conversation_id = c.id and me.user_id = p_user
                   join participants p on p.conversation_id = c.id and p.user_id = given.id
                   where c.direct_low = least(p_user, given.id) and c.direct_high = greatest(p_user, given.id)
               ) or exists (
                   select from participants me
                   join participants p on p.conversation_id = me.conversation_id and p.user_id = given.id
                   where me.user_id = p_user
               ) as shares
        from (select distinct unnest(p_users)) given(id)
    ) known
    where known.id = p_user or known.shares or known.has_contact or exists (
        select from withheld w
        join participants me on me.conversation_id = w.conversation_id and me.user_id = p_user
        where w.user_id = known.id
    )
$$;
