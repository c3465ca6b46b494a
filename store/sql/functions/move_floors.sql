-- Looks at conversations where messages may have expired, those that have waited longest first, and moves their
-- floors past the expired messages. Messages below a floor are still to be announced, archived and deleted.
--
-- p_days: for how long this deployment keeps messages; null: for ever.
-- p_archives: whether it archives the messages that it does not keep. Messages that disappear because of a lifetime are
--     never archived.
-- looked_at: the number of conversations. 0: there are none left, or another transaction has them.
-- moved: the number of floors.
create or replace function move_floors(p_days float8, p_archives boolean, p_limit int, out looked_at int, out moved int)
language plpgsql set lock_timeout = '1s' as $$
declare
    stamp timestamptz := clock_timestamp();
    kept interval := make_interval(secs => p_days * 86400);
    lifetime interval;
    conversation conversations;
    upto bigint;
    next timestamptz;
    is_moved boolean;
    is_own_moved boolean;
    e record;
    own record;
    own_upto bigint;
    own_due timestamptz;
begin
    looked_at := 0;
    moved := 0;
    for e in
        select x.conversation_id from expiries x
        where x.conversation_id in (
            (select d.conversation_id from expiries d
             where d.is_cleared and d.due is not null and d.due <= stamp order by d.due limit p_limit)
            union
            (select o.conversation_id from expiries o
             where o.is_cleared and o.oldest <= stamp - kept order by o.oldest limit p_limit)
        ) and x.is_cleared
        -- In this order, since every transaction locks participants in the order of their keys.
        order by x.conversation_id for update skip locked
    loop
        select * into conversation from conversations c where c.id = e.conversation_id;
        if not found then
            delete from expiries x where x.conversation_id = e.conversation_id;
            looked_at := looked_at + 1;
            continue;
        end if;
        lifetime := least(make_interval(secs => conversation.lifetime_s), kept);
        -- At most 5,000 messages in one step: the next look goes on with the rest.
        upto := least(expired_upto(conversation.id, conversation.floor_seq, conversation.last_seq, stamp - lifetime),
                      conversation.floor_seq + 5000);
        is_moved := upto > conversation.floor_seq;
        if is_moved then
            -- The lock is as brief as that of a send. If a send is under way, the next look moves the floor. Only this
            -- function moves floors, and a change of the lifetime waits for our lock on the row of expiries.
            select * into conversation from conversations c
            where c.id = e.conversation_id for no key update skip locked;
            continue when not found;
            -- In the order in which marks and sends lock them, and before the floor moves: uncounted_between() begins
            -- at the floor.
            perform from participants p
            where p.conversation_id = conversation.id and p.uncounted > 0 and count_base(p) < upto
            order by p.user_id for no key update;
            update participants p
            set uncounted = p.uncounted - uncounted_between(conversation.id, p.user_id, count_base(p), upto)
            where p.conversation_id = conversation.id and p.uncounted > 0 and count_base(p) < upto;
            update conversations c
            set floor_seq = upto, changed = pg_current_xact_id(), floor_changed = pg_current_xact_id()
            where c.id = conversation.id;
            -- A sender has read, and others know that by the message. A device that lacks the message will never get
            -- it, so it is told of the mark.
            perform from participants p
            where p.conversation_id = conversation.id and p.user_id in (
                select m.sender_id from messages m
                where m.conversation_id = conversation.id and m.seq > conversation.floor_seq and m.seq <= upto)
            order by p.user_id for no key update;
            update participants p set marked = pg_current_xact_id()
            where p.conversation_id = conversation.id and p.user_id in (
                select m.sender_id from messages m
                where m.conversation_id = conversation.id and m.seq > conversation.floor_seq and m.seq <= upto);
            moved := moved + 1;
        end if;
        -- If there is no message, no later one will be older than now. Only a send that is under way may be older, by
        -- the time that its commit takes, and lives longer by that time.
        next := coalesce(
            (select m.created from messages m
             where m.conversation_id = conversation.id and m.seq > upto order by m.seq limit 1),
            stamp);
        -- The lifetime that a blocked user has set holds for what this user sees.
        own_due := null;
        is_own_moved := false;
        for own in
            select p.user_id, greatest(p.joined_seq, upto) as floor_seq,
                   make_interval(secs => p.own_lifetime_s) as lifetime
            from participants p where p.conversation_id = conversation.id and p.own_lifetime_s > 0 order by p.user_id
        loop
            own_upto := least(
                expired_upto(conversation.id, own.floor_seq, conversation.last_seq, stamp - own.lifetime),
                own.floor_seq + 5000);
            update participants p
            -- own_shown: the list of participants is told whole. A device that lacks the deleted message would not
            --     learn otherwise that its sender has read.
            set joined_seq = own_upto, own_changed = pg_current_xact_id(), own_shown = pg_current_xact_id(),
                uncounted = case when p.uncounted = 0 then 0 else p.uncounted - uncounted_between(
                    p.conversation_id, p.user_id, count_base(p), greatest(count_base(p), own_upto)) end
            where p.conversation_id = conversation.id and p.user_id = own.user_id and own_upto > own.floor_seq;
            is_own_moved := is_own_moved or own_upto > own.floor_seq;
            own_due := least(own_due, own.lifetime + coalesce((
                select m.created from messages m
                where m.conversation_id = conversation.id and m.seq > own_upto order by m.seq limit 1
            ), stamp));
        end loop;
        update expiries x
        set oldest = next, due = least(next + make_interval(secs => conversation.lifetime_s), own_due),
            is_announced = not (is_moved or is_own_moved),
            wants_archive = is_moved and p_archives and conversation.lifetime_s is null,
            -- If only an own floor has moved, nothing lies below the floor of the conversation: the next look finds
            -- that.
            is_cleared = not (is_moved or is_own_moved)
        where x.conversation_id = e.conversation_id;
        looked_at := looked_at + 1;
    end loop;
end $$;
