-- The stay of a user in a group ends. If the group shows no administrator afterwards, the participant with the longest
-- stay becomes one: of those who have accepted, or else of those who are asked. The caller has locked the conversation,
-- and knows that the user is a participant or withheld.
--
-- p_by: the user who removes the other; null: the user leaves.
-- participant_ids: those who remain.
-- since_seq, left_seq, delivered_seq, read_seq: the stay that has ended.
-- heir: the new administrator, or null.
-- was_participant: false if the user was withheld, and so has not been told of the conversation.
create or replace function end_stay(
    c conversations, p_user uuid, p_by uuid,
    out participant_ids uuid[], out since_seq bigint, out left_seq bigint, out delivered_seq bigint,
    out read_seq bigint, out heir uuid, out was_participant boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    gone participants;
    held withheld;
begin
    left_seq := c.last_seq;
    delete from participants p where p.conversation_id = c.id and p.user_id = p_user returning * into gone;
    was_participant := found;
    if was_participant then
        since_seq := gone.since_seq;
        delivered_seq := gone.delivered_seq;
        read_seq := gone.read_seq;
        insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq,
                                private_delivered_seq, private_read_seq, removed_by)
        values (p_user, c.id, gone.since_seq, left_seq, gone.delivered_seq, gone.read_seq, gone.private_delivered_seq,
                gone.private_read_seq, p_by);
    else
        -- The devices of a withheld user have long been told that the user takes no part. The others see the stay end
        -- now.
        delete from withheld w where w.conversation_id = c.id and w.user_id = p_user returning * into held;
        since_seq := held.since_seq;
        delivered_seq := held.delivered_seq;
        read_seq := held.read_seq;
        insert into stays (conversation_id, user_id, since_seq, left_seq, delivered_seq, read_seq, removed_by, departed)
        values (c.id, p_user, held.since_seq, left_seq, held.delivered_seq, held.read_seq, p_by, clock_timestamp())
        on conflict do nothing;
    end if;
    if not exists (select from shown_participants p where p.conversation_id = c.id and p.role = 'admin') then
        update participants p set role = 'admin', changed_by = null, changed = pg_current_xact_id()
        where p.conversation_id = c.id and p.user_id = (
            select o.user_id from participants o where o.conversation_id = c.id
            order by o.asked_by is not null, o.joined, o.user_id limit 1)
        returning p.user_id into heir;
    end if;
    if not exists (select from shown_participants p where p.conversation_id = c.id) then
        -- No user can come back into the group, so nobody sees it any longer.
        delete from group_states s where s.conversation_id = c.id;
        if c.avatar is not null then
            perform take_avatar(p_user, null, c.avatar);
            update conversations o set avatar = null where o.id = c.id;
        end if;
    end if;
    perform note_participation(c.id, p_user);
    participant_ids := note_participants(c.id);
end $$;
