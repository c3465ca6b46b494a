-- name: device_by_token
-- The device of a token's family, the time for the welcome, until when its tokens are good, when the user last showed
-- the password on it, and the state of this token.
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint as now,
       (extract(epoch from d.expires) * 1000000)::bigint as expires,
       (extract(epoch from d.confirmed) * 1000000)::bigint as confirmed, token_state(d, %(token_hash)s) as state
from devices d where d.family_hash = %(family_hash)s

-- name: low_kinds
-- The kinds of one-time keys that a device d is low on (key_pools).
select p.kind from key_pools p where p.device_id = d.id and p.low is not null order by p.kind

-- name: has_reports
-- Whether devices have reported that they cannot decrypt messages of the user of a device d (undecryptable).
select from undecryptable u where u.sender_id = d.user_id and not u.is_healed

-- name: show_token
-- See show_token() in functions/.
select show_token(%(family_hash)s, %(token_hash)s, %(overlap_s)s);

-- name: renew_token
-- See renew_token() in functions/.
select state, expires, at from renew_token(
    %(device)s::uuid, %(family_hash)s, %(token_hash)s, %(new_hash)s, %(lifetime_s)s, %(overlap_s)s, %(most)s::int);

-- name: forget_tokens
-- Removes the hashes of the tokens of devices that ended more than the given days ago, and the names of these devices,
-- a batch at a time: no device needs to be told the reason after that. One row: how many.
with ended as (
    select d.id from devices d
    where d.family_hash is not null and least(d.expires, d.revoked) < now() - make_interval(days => %(days)s)
    order by least(d.expires, d.revoked) limit %(limit)s for update skip locked
), gone as (
    update devices d
    set family_hash = null, token_hash = null, next_hashes = '{}', former_hash = null, former_until = null, name = ''
    from ended e where d.id = e.id
    returning 1
)
select count(*) from gone;
