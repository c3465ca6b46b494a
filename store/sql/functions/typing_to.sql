-- Who is told that a user types in a conversation, and the user; nobody: the user takes no part. Neither those who block the user,
-- nor whom the user blocks; nobody in a request that the user has not accepted, nor who has not accepted it.
create or replace function typing_to(p_conversation uuid, p_user uuid) returns uuid[] language sql stable as $$
    select array_agg(p.user_id)
    from participants me
    join participants p on p.conversation_id = me.conversation_id
    where me.conversation_id = p_conversation and me.user_id = p_user
      and (p.user_id = p_user or me.asked_by is null and p.asked_by is null
           and p.user_id <> all(array(select b.contact_id from contacts b where b.user_id = p_user and b.is_blocked))
           and p.user_id <> all(array(select b.user_id from contacts b where b.contact_id = p_user and b.is_blocked)))
$$;
