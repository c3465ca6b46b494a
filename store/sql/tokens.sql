-- name: device_by_token
-- The device of a token, until when the token is good, the time for the welcome, and when the user last showed the
-- password on the device.
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint as now,
       (extract(epoch from d.expires) * 1000000)::bigint as expires, d.revoked is not null as is_revoked,
       (extract(epoch from d.confirmed) * 1000000)::bigint as confirmed
from devices d where d.token_hash = %(token_hash)s
union all
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint,
       (extract(epoch from d.former_expires) * 1000000)::bigint, d.revoked is not null,
       (extract(epoch from d.confirmed) * 1000000)::bigint
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
