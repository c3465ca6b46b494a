-- The users, among some, whose devices a user may see with their identities and keys: the user, users who have the user as
-- a contact, and users who share a conversation with the user.
--
-- is_reached: what the user sends may reach them. False: they block the user, or only seem to take part (withheld). The
--     user must not notice, so they are listed as before, and the user's claims use up none of their keys.
--
-- Small queries in turn, of which most users need one: Postgres takes longer to begin a query that has all of them.
create or replace function key_owners(p_user uuid, p_users uuid[]) returns table (user_id uuid, is_reached boolean)
language plpgsql stable rows 10 set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    other uuid;
    known record;
    is_acquainted boolean;
begin
    for other in select distinct u from unnest(p_users) u loop
        select k.is_contact, k.is_blocked into known from contacts k where k.user_id = other and k.contact_id = p_user;
        is_acquainted := other = p_user or known.is_contact is true;
        if not is_acquainted then
            -- A direct conversation has a key.
            perform from conversations c
            join participants me on me.conversation_id = c.id and me.user_id = p_user
            join participants p on p.conversation_id = c.id and p.user_id = other
            where c.direct_low = least(p_user, other) and c.direct_high = greatest(p_user, other) limit 1;
            is_acquainted := found;
        end if;
        if not is_acquainted then
            perform from participants me
            join participants p on p.conversation_id = me.conversation_id and p.user_id = other
            where me.user_id = p_user limit 1;
            is_acquainted := found;
        end if;
        if is_acquainted then
            user_id := other;
            is_reached := known.is_blocked is not true;
            return next;
        else
            perform from withheld w
            join participants me on me.conversation_id = w.conversation_id and me.user_id = p_user
            where w.user_id = other limit 1;
            if found then
                user_id := other;
                is_reached := false;
                return next;
            end if;
        end if;
    end loop;
end $$;
