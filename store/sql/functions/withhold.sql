-- A participant gets nothing of a conversation from now on, and the others see no change. The caller has locked the
-- conversation. The user's own devices are told that the user takes no part; for the others no stay has ended.
create or replace function withhold(p_conversation uuid, p_user uuid) returns void language sql as $$
    with gone as (
        delete from participants p where p.conversation_id = p_conversation and p.user_id = p_user returning p.*
    ), kept as (
        insert into withheld (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq, role,
                              changed_by, changed)
        select g.conversation_id, g.user_id, g.joined_seq, g.since_seq, g.delivered_seq, g.read_seq, g.role,
               g.changed_by, g.changed
        from gone g
    ), noted as (
        insert into departures (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq,
                                private_delivered_seq, private_read_seq, is_private)
        select g.user_id, g.conversation_id, least(g.since_seq, c.last_seq), c.last_seq, g.delivered_seq, g.read_seq,
               g.private_delivered_seq, g.private_read_seq, true
        from gone g join conversations c on c.id = g.conversation_id
    )
    update conversations c set recipients_version = c.recipients_version + 1
    where c.id = p_conversation and exists (select from gone);
$$;
