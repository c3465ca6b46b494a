-- A participant leaves a group (p_user and p_other are the same), or an administrator removes a participant. See
-- add_participant() and end_stay().
--
-- outcome:
--   'changed'
--   'stranger': p_user takes no part, or there is no such conversation
--   'no_group': the conversation is not a group
--   'forbidden': p_user is not an administrator
--   'unknown': p_other takes no part
create or replace function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid,
    out outcome text, out participant_ids uuid[], out participants_version bigint,
    out since_seq bigint, out left_seq bigint, out delivered_seq bigint, out read_seq bigint, out heir uuid,
    out was_participant boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    conversation conversations;
    ended record;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when conversation.kind <> 'group' then 'no_group'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from shown_participants p
            where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome <> 'changed' then
        return;
    end if;
    select * into ended from end_stay(conversation, p_other, nullif(p_user, p_other));
    since_seq := ended.since_seq;
    left_seq := ended.left_seq;
    delivered_seq := ended.delivered_seq;
    read_seq := ended.read_seq;
    heir := ended.heir;
    was_participant := ended.was_participant;
    participant_ids := ended.participant_ids;
    participants_version := conversation.participants_version + 1;
end $$;
