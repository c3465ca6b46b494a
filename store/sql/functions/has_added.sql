-- Whether a user has made another user a contact, also if they block that user by now: the block must not show in what
-- the other user is refused, or may begin.
create or replace function has_added(p_user uuid, p_other uuid) returns boolean language sql stable as $$
    select exists (select from contacts k where k.user_id = p_user and k.contact_id = p_other and k.is_contact)
$$;
