-- A user becomes a participant of a group. The lock on the conversation puts the change before or after each message,
-- and lists of participants from before have an older version. p_other is asked to accept unless p_user is their
-- contact. p_other is withheld if they block p_user, or have left by themselves and p_user is not their contact; the
-- others see no difference.
--
-- p_limit: the most participants of a group.
-- p_starts: how many strangers p_user may bring in 24 hours.
-- p_places: how many places in groups p_user may fill in 24 hours.
-- outcome:
--   'changed'
--   'again': p_other takes part already
--   'stranger': p_user takes no part, or there is no such conversation
--   'no_group': the conversation is not a group
--   'forbidden': p_user is not an administrator
--   'unknown': p_other does not exist, or is deleted
--   'full': p_limit users take part
--   'refused': p_other takes no groups from p_user
--   'limited': p_user has brought p_starts strangers, and may bring the next in wait_s seconds
--   'crowded': p_user has filled p_places places in groups, and may fill the next in wait_s seconds
create or replace function add_participant(
    p_user uuid, p_conversation uuid, p_other uuid, p_limit int, p_starts int, p_places int,
    out outcome text, out participant_ids uuid[], out participants_version bigint, out wait_s float8
) language plpgsql as $$
declare
    conversation conversations;
    setting text;
    is_known boolean;
    is_blocker boolean;
    is_shown boolean;
    first_seq bigint;
    is_withheld boolean;
    former departures;
    held withheld;
begin
    perform lock_starts(p_user, false);
    perform lock_device_set(p_other, false);
    -- The lock puts this before or after the deletion of the other account (anonymise_user).
    select u.groups_from into setting from users u where u.id = p_other and u.deleted is null for key share;
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    is_known := has_added(p_other, p_user);
    is_blocker := is_blocked(p_other, p_user);
    is_shown := exists (select from withheld w where w.conversation_id = p_conversation and w.user_id = p_other);
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when conversation.kind <> 'group' then 'no_group'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'again'
        -- A contact brings in a withheld user in earnest, unless the user blocks a participant: that participant would
        -- see them come.
        when is_shown and (not is_known or exists (
            select from contacts k
            join participants p on p.conversation_id = p_conversation and p.user_id = k.contact_id
            where k.user_id = p_other and k.is_blocked)) then 'again'
        when setting is null then 'unknown'
        when not takes_from(setting, is_known) then 'refused'
        when not is_shown and (
            select count(*) from shown_participants p where p.conversation_id = p_conversation) >= p_limit then 'full'
        else 'changed' end;
    if outcome = 'changed' then
        wait_s := count_places(p_user, 1, p_places);
        if wait_s is not null then
            outcome := 'crowded';
        elsif not is_known then
            wait_s := count_start(p_user, p_starts);
            if wait_s is not null then
                outcome := 'limited';
                perform count_places(p_user, -1, p_places);
            end if;
        end if;
    end if;
    if outcome <> 'changed' then
        return;
    end if;
    first_seq := case when conversation.joiners_see_all then 0 else conversation.last_seq end;
    is_withheld := is_blocker or not is_known and exists (
        select from departures d
        where d.user_id = p_other and d.conversation_id = p_conversation and d.removed_by is null);
    -- The stay that has ended remains shown, once. If the departure is private, the others have seen an end already.
    select * into former from departures d where d.user_id = p_other and d.conversation_id = p_conversation;
    if former.left_seq > former.since_seq and not former.is_private then
        insert into stays (conversation_id, user_id, since_seq, left_seq, delivered_seq, read_seq, removed_by, departed)
        values (p_conversation, p_other, former.since_seq, former.left_seq, former.delivered_seq, former.read_seq,
                former.removed_by, former.departed)
        on conflict do nothing;
    end if;
    -- A new participant has received nothing. A user who comes back has the marks from before: marks never go back.
    if is_withheld then
        insert into withheld (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq, changed_by)
        values (p_conversation, p_other, first_seq, conversation.last_seq, coalesce(former.delivered_seq, 0),
                coalesce(former.read_seq, 0), p_user);
        -- The user's own devices are told nothing. The others see the stay among those that have ended.
        update departures d set is_private = true where d.user_id = p_other and d.conversation_id = p_conversation;
    else
        delete from withheld w where w.conversation_id = p_conversation and w.user_id = p_other returning * into held;
        delete from departures d where d.user_id = p_other and d.conversation_id = p_conversation;
        -- The others have seen a withheld user take part all the time: messages from meanwhile stay sent to this user.
        insert into participants (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq,
                                  private_delivered_seq, private_read_seq, role, changed_by, asked_by, asked_seq)
        values (p_conversation, p_other, first_seq, coalesce(held.since_seq, conversation.last_seq),
                coalesce(held.delivered_seq, former.delivered_seq, 0), coalesce(held.read_seq, former.read_seq, 0),
                coalesce(former.private_delivered_seq, 0),
                case when held.user_id is null then coalesce(former.private_read_seq, 0) else conversation.last_seq end,
                coalesce(held.role, 'member'), p_user,
                case when not is_known then p_user end, case when not is_known then conversation.last_seq end);
        update participants p set written_seq = coalesce((
            select max(m.seq) from messages m
            where m.conversation_id = p_conversation and m.seq > conversation.last_seq - 50 and m.sender_id = p_other
        ), 0)
        where p.conversation_id = p_conversation and p.user_id = p_other;
    end if;
    perform note_participation(p_conversation, p_other);
    participant_ids := note_participants(p_conversation);
    participants_version := conversation.participants_version + 1;
end $$;
