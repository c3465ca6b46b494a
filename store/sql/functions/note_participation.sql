-- The devices of a user have joined a conversation with the user, or left it. The caller has locked the conversation, and
-- before it, of a user who joins, the user's device set (lock_device_set).
create or replace function note_participation(p_conversation uuid, p_user uuid) returns void language sql as $$
    select raise_devices_version(p_user, array[p_conversation])
    where exists (select from devices d where d.user_id = p_user and d.identity is not null)
$$;
