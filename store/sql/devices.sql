-- name: add_device
-- Adds a device with the hashes of its token; the token itself is not stored. If the user then has more devices than
-- %(most)s, those that were used least recently are revoked. If it is not the user's first device, a mail tells of it,
-- unless the user does not want that. No row: there is no such user. Null: the account is closed or suspended, or the
-- password has another hash by now; the lock keeps them as they are until this is committed.
with owner as (
    select u.id from users u
    where u.id = %(user)s::uuid and (%(password_hash)s::text is null or u.password_hash = %(password_hash)s)
      and not u.is_closed and u.suspended is null
    for share
), crowded as (
    -- This and the rest read the tables as they were before.
    select d.id from devices d join owner on d.user_id = owner.id
    where d.revoked is null and d.expires > clock_timestamp()
    order by d.last_used desc offset %(most)s - 1
), ended as (
    update devices d set revoked = clock_timestamp() from crowded c where d.id = c.id
    returning d.id, d.user_id, d.name
), silenced as (
    delete from notifiers n using crowded c where n.device_id = c.id
), noted_ended as (
    select note_security_event(
        'device_revoked', x.user_id, '{"actor": "system"}', jsonb_build_object('device', x.id, 'name', x.name))
    from ended x
), others as (
    -- This reads the table as it was before the new device.
    select exists (select from devices d where d.user_id = %(user)s::uuid) as are_there
), made as (
    insert into devices (id, user_id, name, family_hash, token_hash, history, client, confirmed, expires)
    select %(device)s::uuid, owner.id, %(name)s, %(family_hash)s, %(token_hash)s, history_number(), %(client)s,
           least(clock_timestamp(), to_timestamp(%(authenticated)s::float8)),
           clock_timestamp() + make_interval(secs => %(lifetime_s)s)
    from owner
    returning id, user_id, expires
), told as (
    select enqueue('new_device', jsonb_build_object('user', made.user_id, 'device', made.id))
    from made join emails e on e.user_id = made.user_id cross join others o
    where e.verified is not null and e.wants_device_notice and o.are_there
), noted as (
    select note_security_event(
        case when o.are_there then 'new_device' else 'login' end, made.user_id, %(source)s::jsonb,
        jsonb_strip_nulls(jsonb_build_object(
            'name', %(name)s::text, 'by', case when %(authenticated)s::float8 is not null then 'external_token' end)),
        made.id)
    from made cross join others o
)
select (extract(epoch from made.expires) * 1000000)::bigint, u.is_closed, u.suspended is not null
from users u left join made on true left join noted on true left join told on true
-- The count lets Postgres note each of the devices that are revoked.
where u.id = %(user)s::uuid and (select count(*) from noted_ended) >= 0
-- If a change of the user kept this waiting, the lock reads the user as the change has left it, and the reason is right.
for share of u;

-- name: devices_of
-- A page of the devices of a user whose tokens are good, the newest first.
select d.id, d.name, (extract(epoch from d.created) * 1000000)::bigint,
       (extract(epoch from d.expires) * 1000000)::bigint, (extract(epoch from d.last_used) * 1000000)::bigint, d.client
from devices d
where d.user_id = %(user)s::uuid and d.revoked is null and d.expires > clock_timestamp()
  and ((extract(epoch from d.created) * 1000000)::bigint, d.id) < (%(before)s, %(before_id)s::uuid)
order by (extract(epoch from d.created) * 1000000)::bigint desc, d.id desc limit %(limit)s;

-- name: revoke_device
-- Revokes the token of a device and deletes its notifiers. No row: the user has no such device.
with found as (
    select d.id, d.revoked from devices d
    where d.id = %(device)s::uuid and d.user_id = %(user)s::uuid for no key update
), gone as (
    delete from notifiers where device_id = %(device)s::uuid and user_id = %(user)s::uuid
), revoked as (
    update devices d set revoked = clock_timestamp() from found f where d.id = f.id and f.revoked is null
    returning d.id, d.user_id, d.name
), noted as (
    select note_security_event(
        'device_revoked', r.user_id, %(source)s::jsonb, jsonb_build_object('device', r.id, 'name', r.name))
    from revoked r
)
select f.id from found f left join noted on true;

-- name: revoke_devices
-- See revoke_devices() in functions/.
select revoke_devices(%(user)s::uuid, p_except => %(except)s::uuid, p_source => %(source)s::jsonb);

-- name: ended_since
-- The devices whose connections are to be closed, and why: 'revoked' or 'reused'; without a device: 'suspended', all of
-- the user.
select d.user_id, d.id, case when d.is_reused then 'reused' else 'revoked' end
from devices d where d.revoked between now() - make_interval(secs => %(ago_s)s) and 'infinity'
union all
select u.id, null, 'suspended'
from users u where u.suspended between now() - make_interval(secs => %(ago_s)s) and 'infinity';

-- name: confirm
-- Notes that the user has shown the password on this device. No row: it has another hash by now, or the device was
-- revoked. The lock keeps the password as it is until this is committed.
with owner as (
    select u.id from users u where u.id = %(user)s::uuid and u.password_hash = %(password_hash)s for share
)
update devices d set confirmed = clock_timestamp()
from owner where d.id = %(device)s::uuid and d.user_id = owner.id and d.revoked is null
returning (extract(epoch from d.confirmed) * 1000000)::bigint;

-- name: confirm_externally
-- Notes that the user has logged in at the external issuer at this time, unless the user has shown that it was later. No
-- row: the device was revoked.
update devices d set confirmed = greatest(d.confirmed, least(clock_timestamp(), to_timestamp(%(authenticated)s::float8)))
where d.id = %(device)s::uuid and d.user_id = %(user)s::uuid and d.revoked is null
returning (extract(epoch from d.confirmed) * 1000000)::bigint;
