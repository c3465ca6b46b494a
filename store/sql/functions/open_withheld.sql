-- A withheld user takes part in the conversation, by an act of their own; they may read no message from before. The
-- caller has locked the conversation. Returns whether the user was withheld.
create or replace function open_withheld(p_conversation uuid, p_user uuid) returns boolean language plpgsql as $$
begin
    with gone as (
        delete from withheld w where w.conversation_id = p_conversation and w.user_id = p_user returning w.*
    ), departure as (
        delete from departures d where d.user_id = p_user and d.conversation_id = p_conversation and exists (select from gone)
        returning d.private_delivered_seq
    )
    insert into participants (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq, role,
                              changed_by, private_delivered_seq, private_read_seq)
    select g.conversation_id, g.user_id, c.last_seq, g.since_seq, g.delivered_seq, g.read_seq, g.role, g.changed_by,
           coalesce((select d.private_delivered_seq from departure d), 0), c.last_seq
    from gone g join conversations c on c.id = g.conversation_id;
    if not found then
        return false;
    end if;
    perform note_participants(p_conversation);
    return true;
end $$;
