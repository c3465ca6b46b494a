-- Revokes all devices of a user, and deletes their notifiers. Returns how many were revoked.
--
-- p_except: the device that stays; null: none.
create or replace function revoke_devices(p_user uuid, p_except uuid default null) returns bigint
language sql volatile as $$
    with ended as (
        update devices d set revoked = clock_timestamp()
        where d.user_id = p_user and d.id is distinct from p_except and d.revoked is null
        returning d.id
    ), silenced as (
        delete from notifiers n using ended where n.device_id = ended.id
    )
    select count(*) from ended
$$;
