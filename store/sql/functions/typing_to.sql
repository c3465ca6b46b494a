-- The users who are told that a user types in a conversation, and the user; null if the user takes no part. Left out
-- are blockers of the user, users whom the user blocks, and participants who have not accepted the request. If the user
-- has not accepted it, only the user is left.
create or replace function typing_to(p_conversation uuid, p_user uuid) returns uuid[] language sql stable as $$
    select array_agg(p.user_id)
    from participants me
    join participants p on p.conversation_id = me.conversation_id
    where me.conversation_id = p_conversation and me.user_id = p_user
      and (p.user_id = p_user or me.asked_by is null and p.asked_by is null
           and p.user_id <> all(array(select b.contact_id from contacts b where b.user_id = p_user and b.is_blocked))
           and p.user_id <> all(array(select b.user_id from contacts b where b.contact_id = p_user and b.is_blocked)))
$$;
