-- Whether a user has made another one a contact, also one whom they block by now: what the other one is refused, and may begin,
-- must not tell of the block.
create or replace function has_added(p_user uuid, p_other uuid) returns boolean language sql stable as $$
    select exists (select from contacts k where k.user_id = p_user and k.contact_id = p_other and k.is_contact)
$$;
