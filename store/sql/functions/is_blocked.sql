-- Whether a user blocks another user.
create or replace function is_blocked(p_user uuid, p_other uuid) returns boolean language sql stable as $$
    select exists (select from contacts k where k.user_id = p_user and k.contact_id = p_other and k.is_blocked)
$$;
