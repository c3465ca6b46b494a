-- A participant leaves a group (p_user and p_other are the same), or an administrator removes a participant. See
-- add_participant(). If the group shows no administrator afterwards, the participant with the longest stay becomes one:
-- of those who have accepted, or else of those who are asked.
--
-- outcome:
--   'changed'
--   'stranger': p_user takes no part, or the group does not exist
--   'forbidden': p_user is not an administrator
--   'unknown': p_other takes no part
-- since_seq, left_seq, delivered_seq, read_seq: the stay that has ended.
-- heir: the new administrator, or null.
-- was_participant: false if p_other was withheld, and so has not been told of the conversation.
create or replace function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid,
    out outcome text, out participant_ids uuid[], out participants_version bigint,
    out since_seq bigint, out left_seq bigint, out delivered_seq bigint, out read_seq bigint, out heir uuid,
    out was_participant boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    conversation conversations;
    gone participants;
    held withheld;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from shown_participants p
            where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome <> 'changed' then
        return;
    end if;
    left_seq := conversation.last_seq;
    delete from participants p where p.conversation_id = p_conversation and p.user_id = p_other returning * into gone;
    was_participant := found;
    if was_participant then
        since_seq := gone.since_seq;
        delivered_seq := gone.delivered_seq;
        read_seq := gone.read_seq;
        insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq,
                                private_read_seq, removed_by)
        values (p_other, p_conversation, gone.since_seq, left_seq, gone.delivered_seq, gone.read_seq,
                gone.private_read_seq, nullif(p_user, p_other));
    else
        -- The devices of a withheld user have long been told that the user takes no part. The others see the stay end
        -- now.
        delete from withheld w where w.conversation_id = p_conversation and w.user_id = p_other returning * into held;
        since_seq := held.since_seq;
        delivered_seq := held.delivered_seq;
        read_seq := held.read_seq;
        insert into stays (conversation_id, user_id, since_seq, left_seq, delivered_seq, read_seq, removed_by, departed)
        values (p_conversation, p_other, held.since_seq, left_seq, held.delivered_seq, held.read_seq,
                nullif(p_user, p_other), clock_timestamp())
        on conflict do nothing;
    end if;
    if not exists (select from shown_participants p where p.conversation_id = p_conversation and p.role = 'admin') then
        update participants p set role = 'admin', changed_by = null, changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id = (
            select o.user_id from participants o where o.conversation_id = p_conversation
            order by o.asked_by is not null, o.joined, o.user_id limit 1)
        returning p.user_id into heir;
    end if;
    participant_ids := note_participants(p_conversation);
    participants_version := conversation.participants_version + 1;
end $$;
