-- A user becomes a participant of a group. The conversation is locked, which puts the change before or after each message;
-- lists of its members are of another version from then on.
--
-- outcome: 'changed', 'again' (it was so already), or why not: 'stranger' (p_user takes no part, or there is no such group),
-- 'forbidden' (p_user is no administrator), 'unknown' (there is no user p_other), 'full' (p_limit take part).
create or replace function add_participant(
    p_user uuid, p_conversation uuid, p_other uuid, p_limit int,
    out outcome text, out members uuid[], out members_version bigint
) language plpgsql as $$
declare
    conversation conversations;
    former departures;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'again'
        when not exists (select from users u where u.id = p_other) then 'unknown'
        when (select count(*) from participants p where p.conversation_id = p_conversation) >= p_limit then 'full'
        else 'changed' end;
    if outcome = 'changed' then
        -- Nobody has received what no device of theirs has marked. Who comes back has the marks from before: they never go
        -- back.
        delete from departures d where d.user_id = p_other and d.conversation_id = p_conversation returning * into former;
        if former.left_seq > former.since_seq then
            insert into stays (conversation_id, user_id, since_seq, left_seq, delivered_seq, read_seq, removed_by, departed)
            values (p_conversation, p_other, former.since_seq, former.left_seq, former.delivered_seq, former.read_seq,
                    former.removed_by, former.departed);
        end if;
        insert into participants (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq, private_read_seq,
                                  changed_by)
        values (p_conversation, p_other, case when conversation.joiners_see_all then 0 else conversation.last_seq end,
                conversation.last_seq, coalesce(former.delivered_seq, 0), coalesce(former.read_seq, 0),
                coalesce(former.private_read_seq, 0), p_user);
        update participants p set written_seq = coalesce((
            select max(m.seq) from messages m
            where m.conversation_id = p_conversation and m.seq > conversation.last_seq - 50 and m.sender_id = p_other), 0)
        where p.conversation_id = p_conversation and p.user_id = p_other;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;
