-- The users, among some, whose devices a user may see with their identities and keys: the user, users who have the user as
-- a contact, and users who share a conversation with the user. For several users who ask at once.
--
-- p_users: the users who ask. p_of, p_others: whom they ask for, with the place of the asking user in p_users.
-- n: that place.
-- is_reached: what the user sends may reach them. False: they block the user, or only seem to take part (withheld). The
--     user must not notice, so they are listed as before, and the user's claims use up none of their keys.
create or replace function key_owners(p_users uuid[], p_of bigint[], p_others uuid[]) returns table (
    n bigint, user_id uuid, is_reached boolean
)
language sql stable as $$
    select o.n, o.other, o.is_reached
    from (
        select w.n, w.other,
               case
                   when w.other = p_users[w.n] or k.is_contact
                       -- A direct conversation has a key.
                       or exists (
                           select from conversations c
                           join participants me on me.conversation_id = c.id and me.user_id = p_users[w.n]
                           join participants p on p.conversation_id = c.id and p.user_id = w.other
                           where c.direct_low = least(p_users[w.n], w.other)
                             and c.direct_high = greatest(p_users[w.n], w.other) limit 1)
                       or exists (
                           select from participants me
                           join participants p on p.conversation_id = me.conversation_id and p.user_id = w.other
                           where me.user_id = p_users[w.n] limit 1)
                       then k.is_blocked is not true
                   when exists (
                       select from withheld h
                       join participants me on me.conversation_id = h.conversation_id and me.user_id = p_users[w.n]
                       where h.user_id = w.other limit 1)
                       then false
               end as is_reached
        from unnest(p_of, p_others) w(n, other)
        left join lateral (
            select k.is_contact, k.is_blocked from contacts k
            where k.user_id = w.other and k.contact_id = p_users[w.n] limit 1
        ) k on true
        -- So that it is computed once, wherever it is used.
        offset 0
    ) o
    where o.is_reached is not null
$$;
