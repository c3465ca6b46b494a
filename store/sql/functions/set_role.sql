-- An administrator gives a participant of a group another role. See add_participant().
--
-- outcome:
--   'changed'
--   'again': the participant has this role already
--   'stranger': p_user takes no part, or there is no such conversation
--   'no_group': the conversation is not a group
--   'forbidden': p_user is not an administrator
--   'unknown': p_other takes no part
--   'last': the group would have no administrator
create or replace function set_role(
    p_user uuid, p_conversation uuid, p_other uuid, p_role text,
    out outcome text, out participant_ids uuid[], out participants_version bigint
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.kind <> 'group' then 'no_group'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from shown_participants p
            where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        when exists (
            select from shown_participants p
            where p.conversation_id = p_conversation and p.user_id = p_other and p.role = p_role) then 'again'
        when p_role = 'member' and not exists (
            select from shown_participants p
            where p.conversation_id = p_conversation and p.user_id <> p_other and p.role = 'admin') then 'last'
        else 'changed' end;
    if outcome = 'changed' then
        update participants p set role = p_role, changed_by = nullif(p_user, p_other), changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id = p_other;
        update withheld w set role = p_role, changed_by = p_user, changed = pg_current_xact_id()
        where w.conversation_id = p_conversation and w.user_id = p_other;
        participant_ids := note_participants(p_conversation);
        participants_version := conversation.participants_version + 1;
    end if;
end $$;
