-- The message that a user wants to change, if the user may read it, and what decides about the change. Locks the
-- conversation against other changes.
-- me: null if the user takes no part.
-- message: null if the user takes no part, or may read no message with this seq.
create or replace function message_to_change(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out conversation conversations, out me participants, out message messages
) language plpgsql as $$
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    select * into me from participants p where p.conversation_id = p_conversation and p.user_id = p_user;
    if found then
        select m.* into message from messages m
        where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor_of(conversation, me);
    end if;
end $$;
