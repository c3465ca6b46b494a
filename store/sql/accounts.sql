-- name: add_user
-- Adds a user; a taken name violates users_username.
insert into users (id, username, password_hash) values (%(user)s::uuid, %(username)s, %(password_hash)s);

-- name: user_by_name
-- The user of a name, for a login or a look-up.
select id, username, password_hash from users where username = %(username)s;

-- name: add_device
-- Adds a device with the hash of its token; the token itself is not stored. If it is not the user's first device, a
-- mail tells of it, unless the user does not want that.
with made as (
    insert into devices (id, user_id, name, token_hash, expires)
    values (%(device)s::uuid, %(user)s::uuid, %(name)s, %(token_hash)s,
            clock_timestamp() + make_interval(secs => %(lifetime_s)s))
    returning id, user_id, expires
), told as (
    select enqueue('new_device', jsonb_build_object('user', made.user_id, 'device', made.id))
    from made join emails e on e.user_id = made.user_id
    -- This reads the table as it was before the new device.
    where e.verified is not null and e.wants_device_notice
      and exists (select from devices d where d.user_id = made.user_id)
)
select (extract(epoch from made.expires) * 1000000)::bigint from made left join told on true;

-- name: device_by_token
-- The device of a token, until when the token is good, and the time for the welcome.
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint as now,
       (extract(epoch from d.expires) * 1000000)::bigint as expires, d.revoked is not null as is_revoked
from devices d where d.token_hash = %(token_hash)s
union all
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint,
       (extract(epoch from d.former_expires) * 1000000)::bigint, d.revoked is not null
from devices d where d.former_token_hash = %(token_hash)s

-- name: refresh_token
-- Gives a device a new token. The token that was presented stays good for a while, but no longer than before.
update devices d
set token_hash = %(new_hash)s, expires = clock_timestamp() + make_interval(secs => %(lifetime_s)s),
    former_token_hash = %(token_hash)s,
    former_expires = case when d.token_hash = %(token_hash)s
        then least(d.expires, clock_timestamp() + make_interval(secs => %(grace_s)s)) else d.former_expires end
where d.id = %(device)s::uuid and d.revoked is null
  and (d.token_hash = %(token_hash)s and d.expires > clock_timestamp()
       or d.former_token_hash = %(token_hash)s and d.former_expires > clock_timestamp())
returning (extract(epoch from expires) * 1000000)::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint;

-- name: devices_of
-- A page of the devices of a user whose tokens are good, the newest first.
select d.id, d.name, (extract(epoch from d.created) * 1000000)::bigint,
       (extract(epoch from d.expires) * 1000000)::bigint
from devices d
where d.user_id = %(user)s::uuid and d.revoked is null and d.expires > clock_timestamp()
  and ((extract(epoch from d.created) * 1000000)::bigint, d.id) < (%(before)s, %(before_id)s::uuid)
order by (extract(epoch from d.created) * 1000000)::bigint desc, d.id desc limit %(limit)s;

-- name: revoke_device
-- Revokes the token of a device and deletes its notifiers. No row: the user has no such device.
with gone as (
    delete from notifiers where device_id = %(device)s::uuid and user_id = %(user)s::uuid
)
update devices set revoked = coalesce(revoked, clock_timestamp())
where id = %(device)s::uuid and user_id = %(user)s::uuid
returning id;

-- name: revoked_since
-- The devices whose connections are to be closed.
select d.user_id, d.id from devices d where d.revoked between now() - make_interval(secs => %(ago_s)s) and 'infinity';

-- name: forget_tokens
-- Removes the hashes of tokens that ended more than the given days ago, and the names of their devices, a batch at a
-- time: no device needs to be told the reason after that. One row: how many.
with ended as (
    select d.id from devices d
    where d.token_hash is not null and least(d.expires, d.revoked) < now() - make_interval(days => %(days)s)
    order by least(d.expires, d.revoked) limit %(limit)s for update skip locked
), gone as (
    update devices d set token_hash = null, former_token_hash = null, former_expires = null, name = ''
    from ended e where d.id = e.id
    returning 1
)
select count(*) from gone;

-- name: forget_former_tokens
-- Removes the hashes of the tokens before a refresh, as long after their end, a batch at a time. One row: how many.
with ended as (
    select d.id from devices d where d.former_expires < now() - make_interval(days => %(days)s)
    order by d.former_expires limit %(limit)s for update skip locked
), gone as (
    update devices d set former_token_hash = null, former_expires = null from ended e where d.id = e.id returning 1
)
select count(*) from gone;
