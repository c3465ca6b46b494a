-- Whether a setting (users.messages_from, users.groups_from) lets another user begin a conversation.
create or replace function takes_from(p_setting text, p_is_contact boolean) returns boolean
language sql immutable parallel safe as $$
    select p_setting = 'everybody' or p_setting = 'contacts' and p_is_contact
$$;
