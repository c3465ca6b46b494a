-- Revokes all devices of a user, and deletes their notifiers. Returns how many were revoked.
--
-- p_except: the device that stays; null: none.
-- p_source: of the security events, one for each device (note_security_event).
create or replace function revoke_devices(
    p_user uuid, p_except uuid default null, p_source jsonb default '{"actor": "system"}'
) returns bigint
language sql volatile as $$
    with ended as (
        update devices d set revoked = clock_timestamp()
        where d.user_id = p_user and d.id is distinct from p_except and d.revoked is null
        returning d.id, d.name
    ), silenced as (
        delete from notifiers n using ended where n.device_id = ended.id
    )
    -- An argument of count(), so that Postgres calls the function for each device.
    select count(note_security_event(
        'device_revoked', p_user, p_source, jsonb_build_object('device', ended.id, 'name', ended.name)))
    from ended
$$;
