-- The conversation of a user's own devices, which is made if there is none. If several transactions make it at once, one
-- does, and the others find it.
--
-- outcome: 'made', 'found', or 'ended': the user was deleted since the request began.
create or replace function add_self(
    p_conversation uuid, p_user uuid, out outcome text, out conversation uuid
) language plpgsql as $$
begin
    select c.id into conversation from conversations c where c.direct_low = p_user and c.direct_high = p_user;
    outcome := 'found';
    if conversation is not null then
        return;
    end if;
    perform lock_device_set(p_user, false);
    -- The lock puts this before or after the deletion of the account (anonymise_user).
    perform from users u where u.id = p_user and u.deleted is null for key share;
    if not found then
        outcome := 'ended';
        return;
    end if;
    insert into conversations (id, kind, direct_low, direct_high) values (p_conversation, 'self', p_user, p_user)
    on conflict (direct_low, direct_high) do nothing;
    if found then
        insert into participants (conversation_id, user_id) values (p_conversation, p_user);
        outcome := 'made';
    end if;
    -- The insert has waited for another one: this statement sees it.
    select c.id into conversation from conversations c where c.direct_low = p_user and c.direct_high = p_user;
end $$;
