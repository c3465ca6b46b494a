-- A conversation has another name, shows those who join later another part of what was said before, or lets its messages
-- live for another time; null leaves as it is, a lifetime of 0 s is none. Groups are changed by their administrators; of a
-- direct conversation either changes the lifetime, and nothing else. Who is blocked gets the same answer and changes
-- nothing.
-- outcome: 'changed', 'again', or why not: 'stranger', 'forbidden'.
create or replace function change_conversation(
    p_user uuid, p_conversation uuid, p_name text, p_joiners_see_all boolean, p_lifetime_s int,
    out outcome text, out members uuid[], out members_version bigint,
    out name text, out floor_seq bigint, out joiners_see_all boolean, out lifetime_s int, out settings_by uuid
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    name := coalesce(p_name, conversation.name);
    joiners_see_all := coalesce(p_joiners_see_all, conversation.joiners_see_all);
    lifetime_s := nullif(coalesce(p_lifetime_s, conversation.lifetime_s), 0);
    floor_seq := conversation.floor_seq;
    settings_by := conversation.settings_by;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.kind = 'direct' and (p_name is not null or p_joiners_see_all is not null) then 'stranger'
        when conversation.kind = 'group' and not may_change(p_conversation, p_user) then 'forbidden'
        when conversation.low_blocks and p_user = conversation.direct_high
             or conversation.high_blocks and p_user = conversation.direct_low then 'again'
        when (name, joiners_see_all, lifetime_s)
             is not distinct from (conversation.name, conversation.joiners_see_all, conversation.lifetime_s) then 'again'
        else 'changed' end;
    if outcome = 'changed' then
        settings_by := p_user;
        update conversations c
        set name = change_conversation.name, joiners_see_all = change_conversation.joiners_see_all,
            lifetime_s = change_conversation.lifetime_s, settings_by = p_user
        where c.id = p_conversation;
        update expiries e set due = e.oldest + make_interval(secs => change_conversation.lifetime_s)
        where e.conversation_id = p_conversation;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;
