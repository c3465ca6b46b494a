-- What an administrator of a group may do is done by anybody while it has none. An administrator who is withheld is one: nobody
-- can tell.
create or replace function may_change(p_conversation uuid, p_user uuid) returns boolean language sql stable as $$
    select coalesce(bool_or(p.user_id = p_user and p.role = 'admin'), false)
           or bool_or(p.user_id = p_user) and not bool_or(p.role = 'admin')
    from shown_participants p where p.conversation_id = p_conversation
$$;
