-- Whether a user may do in a group what its administrators may do: every participant may while the group shows no
-- administrator. A withheld administrator counts as shown, or else the participants could tell that they are withheld.
create or replace function may_change(p_conversation uuid, p_user uuid) returns boolean language sql stable as $$
    select coalesce(bool_or(p.user_id = p_user and p.role = 'admin' and not p.is_withheld), false)
           or bool_or(p.user_id = p_user and not p.is_withheld) and not bool_or(p.role = 'admin')
    from shown_participants p where p.conversation_id = p_conversation
$$;
