-- Whether a user knows another one, and does not block them.
create or replace function is_contact(p_user uuid, p_other uuid) returns boolean language sql stable as $$
    select exists (
        select from contacts k where k.user_id = p_user and k.contact_id = p_other and k.is_contact and not k.is_blocked)
$$;
