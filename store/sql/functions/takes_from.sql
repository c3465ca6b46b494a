-- Whether a user takes what p_other begins, by the user's setting.
create or replace function takes_from(p_setting text, p_is_contact boolean) returns boolean language sql immutable parallel safe as $$
    select p_setting = 'everybody' or p_setting = 'contacts' and p_is_contact
$$;
