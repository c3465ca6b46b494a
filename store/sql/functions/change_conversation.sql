-- Changes the name or the avatar of a conversation, what later participants may read, or the lifetime of messages.
-- Administrators change groups. In a direct conversation each of the two changes the lifetime, and nothing else. A
-- blocked user changes what holds for themselves alone, and sees it.
--
-- p_name, p_avatar, p_joiners_see_all, p_lifetime_s: null leaves it as it is. A lifetime of 0 s and the avatar with the
--     nil UUID mean none.
-- outcome:
--   'changed'
--   'again': it was so already
--   'stranger': p_user takes no part, or there is no such conversation
--   'no_group': the conversation is not a group, which alone has such a setting
--   'forbidden': p_user is not an administrator
--   'unattachable', 'incomplete', 'used': it cannot have the avatar (take_avatar)
-- avatar: as clients are told of it.
-- settings_by: the user who changed the settings last.
-- others_lifetime_s, others_settings_by: what the other user sees, if p_user is blocked.
create or replace function change_conversation(
    p_user uuid, p_conversation uuid, p_name text, p_avatar uuid, p_joiners_see_all boolean, p_lifetime_s int,
    out outcome text, out participant_ids uuid[], out participants_version bigint,
    out name text, out floor_seq bigint, out joiners_see_all boolean, out lifetime_s int, out settings_by uuid,
    out others_lifetime_s int, out others_settings_by uuid, out avatar bytea
) language plpgsql as $$
declare
    conversation conversations;
    own_lifetime_s int;
    former_s int;
    new_avatar uuid;
    is_own boolean;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    name := coalesce(p_name, conversation.name);
    new_avatar := given_avatar(p_avatar, conversation.avatar);
    joiners_see_all := coalesce(p_joiners_see_all, conversation.joiners_see_all);
    is_own := conversation.low_blocks and p_user = conversation.direct_high
              or conversation.high_blocks and p_user = conversation.direct_low;
    select p.own_lifetime_s into own_lifetime_s from participants p
    where p.conversation_id = p_conversation and p.user_id = p_user;
    former_s := case when own_lifetime_s is null then conversation.lifetime_s else nullif(own_lifetime_s, 0) end;
    lifetime_s := nullif(coalesce(p_lifetime_s, former_s), 0);
    others_lifetime_s := case when is_own then conversation.lifetime_s else lifetime_s end;
    floor_seq := conversation.floor_seq;
    -- A user with a lifetime of their own has set it themselves.
    settings_by := case when own_lifetime_s is null then conversation.settings_by else p_user end;
    others_settings_by := conversation.settings_by;
    outcome := case
        when conversation.id is null or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.kind <> 'group'
             and (p_name is not null or p_avatar is not null or p_joiners_see_all is not null) then 'no_group'
        when conversation.kind = 'group' and not may_change(p_conversation, p_user) then 'forbidden'
        when (name, new_avatar, joiners_see_all, lifetime_s) is not distinct from (
             conversation.name, conversation.avatar, conversation.joiners_see_all, former_s) then 'again'
        else 'changed' end;
    if outcome = 'changed' and new_avatar is distinct from conversation.avatar then
        outcome := coalesce(take_avatar(p_user, new_avatar, conversation.avatar), 'changed');
    end if;
    avatar := (select v.told from avatars v where v.id = new_avatar);
    if outcome = 'changed' then
        settings_by := p_user;
        others_settings_by := case when is_own then conversation.settings_by else p_user end;
    end if;
    if outcome = 'changed' and is_own then
        update participants p
        set own_lifetime_s = coalesce(change_conversation.lifetime_s, 0), own_changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id = p_user;
        update expiries e set due = least(e.due, e.oldest + make_interval(secs => change_conversation.lifetime_s))
        where e.conversation_id = p_conversation;
        participant_ids := note_participants(p_conversation);
        participants_version := conversation.participants_version + 1;
    elsif outcome = 'changed' then
        update participants p set own_lifetime_s = null, own_changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.own_lifetime_s is not null;
        update conversations c
        set name = change_conversation.name, avatar = new_avatar,
            joiners_see_all = change_conversation.joiners_see_all, lifetime_s = change_conversation.lifetime_s,
            settings_by = p_user
        where c.id = p_conversation;
        update expiries e set due = e.oldest + make_interval(secs => change_conversation.lifetime_s)
        where e.conversation_id = p_conversation;
        participant_ids := note_participants(p_conversation);
        participants_version := conversation.participants_version + 1;
    end if;
end $$;
