-- A user blocks another user, or ends the block. Messages of the blocked user that are unread count as read on all of
-- the user's devices, and requests of the blocked user are declined. Nothing is written that the blocked user is shown,
-- or could tell the time of.
--
-- p_is_online: whether the user is online now. The blocked user sees that end here.
-- outcome:
--   'changed'
--   'again': it was so already
--   'unknown': the other user does not exist, is deleted, or is the user
-- shown: the user's conversations that show the other user differently from now on.
-- declined: the conversations that the user has left by the block.
create or replace function set_blocked(
    p_user uuid, p_other uuid, p_is_blocked boolean, p_is_online boolean,
    out outcome text, out shown uuid[], out declined uuid[]
) language plpgsql as $$
declare
    direct uuid;
    asked uuid;
    concerned uuid[];
begin
    perform lock_starts(p_other, true);
    perform lock_pair(p_user, p_other);
    -- The lock puts this before or after the deletion of the other account (anonymise_user).
    perform from users u where u.id = p_other and u.deleted is null for key share;
    if not found or p_user = p_other then
        outcome := 'unknown';
        return;
    end if;
    if p_is_blocked = is_blocked(p_user, p_other) then
        outcome := 'again';
        return;
    end if;
    insert into contacts (user_id, contact_id, is_contact, is_blocked, last_seen)
    values (p_user, p_other, not p_is_blocked, p_is_blocked,
            case when p_is_blocked and p_is_online then clock_timestamp()
                 when p_is_blocked then (select l.at from last_seen l where l.user_id = p_user) end)
    on conflict (user_id, contact_id) do update
    set is_blocked = excluded.is_blocked, last_seen = excluded.last_seen,
        -- When a block ends, the other user is a contact, whatever they were before.
        is_contact = contacts.is_contact or not p_is_blocked;
    -- In order of their ids, as every transaction locks them.
    concerned := array(
        select c.id from conversations c
        where c.direct_low = least(p_user, p_other) and c.direct_high = greatest(p_user, p_other)
        union all
        select p.conversation_id from participants p where p.user_id = p_user and p.asked_by = p_other
    );
    perform from conversations c where c.id = any(concerned) order by c.id for no key update;
    update conversations c
    set low_blocks = case when c.direct_low = p_user then p_is_blocked else c.low_blocks end,
        high_blocks = case when c.direct_high = p_user then p_is_blocked else c.high_blocks end
    where c.direct_low = least(p_user, p_other) and c.direct_high = greatest(p_user, p_other)
    returning c.id into direct;
    if p_is_blocked then
        declined := '{}';
        for asked in
            select p.conversation_id from participants p where p.user_id = p_user and p.asked_by = p_other
            order by p.conversation_id
        loop
            perform withhold(asked, p_user);
            declined := declined || asked;
        end loop;
    else
        perform open_withheld(direct, p_user);
        -- The other user's own lifetime holds for both from now on: else it would promise them something untrue about
        -- new messages. The user is told through `shown`; nothing changes for the other user.
        with own as (
            select p.own_lifetime_s from participants p
            where p.conversation_id = direct and p.user_id = p_other and p.own_lifetime_s is not null
        ), no_longer as (
            update participants p set own_lifetime_s = null
            where p.conversation_id = direct and p.user_id = p_other and exists (select from own)
        ), due as (
            update expiries e set due = e.oldest + make_interval(secs => nullif(own.own_lifetime_s, 0))
            from own where e.conversation_id = direct
        )
        update conversations c set lifetime_s = nullif(own.own_lifetime_s, 0), settings_by = p_other
        from own where c.id = direct;
    end if;
    -- The other user is shown without a display name from now on, or with it. The limit makes Postgres look up each by
    -- its key: without statistics it would read a whole table.
    concerned := array(
        select p.conversation_id from participants p
        cross join lateral (
            select from shown_participants o where o.conversation_id = p.conversation_id and o.user_id = p_other limit 1
        ) are_shown
        where p.user_id = p_user
    );
    perform from participants p
    where p.conversation_id = any(concerned) and p.user_id = p_user order by p.conversation_id for no key update;
    update participants p
    set own_shown = pg_current_xact_id(),
        private_read_seq = case when p_is_blocked and p.conversation_id = direct
                                then greatest(p.private_read_seq,
                                    (select c.last_seq from conversations c where c.id = direct))
                                else p.private_read_seq end,
        uncounted = case when p_is_blocked and p.conversation_id = direct then 0 else p.uncounted end
    where p.conversation_id = any(concerned) and p.user_id = p_user;
    shown := concerned;
    outcome := 'changed';
end $$;
