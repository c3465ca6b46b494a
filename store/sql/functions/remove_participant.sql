-- A participant leaves a group (p_user and p_other are the same), or an administrator removes one. See add_participant().
--
-- outcome: 'changed', or why not: 'stranger', 'forbidden', 'unknown' (p_other takes no part).
create or replace function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid,
    out outcome text, out members uuid[], out members_version bigint, out was_member boolean
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from shown_participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome = 'changed' then
        was_member := not exists (
            select from withheld w where w.conversation_id = p_conversation and w.user_id = p_other);
        with gone as (
            delete from participants p where p.conversation_id = p_conversation and p.user_id = p_other
            returning p.joined_seq
        )
        insert into departures (user_id, conversation_id, joined_seq, left_seq, removed_by)
        select p_other, p_conversation, least(g.joined_seq, conversation.last_seq), conversation.last_seq,
               nullif(p_user, p_other)
        from gone g;
        -- Who was withheld has long been told that they take no part.
        delete from withheld w where w.conversation_id = p_conversation and w.user_id = p_other;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;
