-- Whether a user has made another one a contact, whom they may block since: nothing that the other one is refused tells of a block.
create or replace function seems_contact(p_user uuid, p_other uuid) returns boolean language sql stable as $$
    select exists (select from contacts k where k.user_id = p_user and k.contact_id = p_other and k.is_contact)
$$;
