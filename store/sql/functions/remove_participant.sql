-- A participant leaves a group (p_user and p_other are the same), or an administrator removes one. See add_participant().
-- If no administrator is left, the one who has taken part for longest becomes one.
--
-- outcome: 'changed', or why not: 'stranger', 'forbidden', 'unknown' (p_other takes no part). stay: the one that has ended.
-- heir: the new administrator, if there is one.
create or replace function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid,
    out outcome text, out members uuid[], out members_version bigint,
    out since_seq bigint, out left_seq bigint, out delivered_seq bigint, out read_seq bigint, out heir uuid
) language plpgsql as $$
#variable_conflict use_column
declare
    conversation conversations;
    gone departures;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome = 'changed' then
        with gone as (
            delete from participants p where p.conversation_id = p_conversation and p.user_id = p_other
            returning p.since_seq, p.delivered_seq, p.read_seq, p.private_read_seq
        )
        insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq, private_read_seq,
                                removed_by)
        select p_other, p_conversation, g.since_seq, conversation.last_seq, g.delivered_seq, g.read_seq, g.private_read_seq,
               nullif(p_user, p_other)
        from gone g
        returning * into gone;
        since_seq := gone.since_seq;
        left_seq := gone.left_seq;
        delivered_seq := gone.delivered_seq;
        read_seq := gone.read_seq;
        if not exists (select from participants p where p.conversation_id = p_conversation and p.role = 'admin') then
            update participants p set role = 'admin', changed_by = null, changed = pg_current_xact_id()
            where p.conversation_id = p_conversation and p.user_id = (
                select o.user_id from participants o where o.conversation_id = p_conversation
                order by o.joined, o.user_id limit 1)
            returning p.user_id into heir;
        end if;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;
