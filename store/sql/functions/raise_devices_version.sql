-- Gives conversations the next version of their device set, since the devices of a user have changed there. The caller has
-- locked the conversations in the order of their ids.
--
-- A version is the time in microseconds, or the one before and 1: so a database that was restored, or that has lost the
-- last commits in a fail-over, does not give a version to two sets.
create or replace function raise_devices_version(p_user uuid, p_conversations uuid[]) returns void language sql as $$
    with raised as (
        update conversations c
        set devices_version = greatest(
                c.devices_version + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint),
            devices_changed = pg_current_xact_id()
        where c.id = any(p_conversations)
        returning c.id, c.devices_version
    )
    insert into device_changes (conversation_id, user_id, version) select r.id, p_user, r.devices_version from raised r
    on conflict (conversation_id, user_id) do update set version = excluded.version
$$;
