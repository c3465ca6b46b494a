-- name: put_identity
-- Publishes the identity of a device, unless it is null or the one that the device has. One row: the identity that the
-- device has now, and how often it was another one. No row: the device was revoked.
with changed as (
    update devices d set identity = %(identity)s::bytea, identity_revision = d.identity_revision + 1
    where d.id = %(device)s::uuid and d.revoked is null and %(identity)s::bytea is not null
      and d.identity is distinct from %(identity)s::bytea
    returning d.identity, d.identity_revision
)
select c.identity, c.identity_revision from changed c
union all
select d.identity, d.identity_revision from devices d
where d.id = %(device)s::uuid and d.revoked is null and not exists (select from changed);

-- name: devices
-- A page of the devices with an identity of those users, among some, whose devices a user may see (key_owners): those
-- after a device, in the order of their ids. An identity is null from the device on that no longer fits into the bytes of
-- the page, but for the first.
select f.user_id, f.id, case when f.fits then f.identity end, f.identity_revision
from (
    select d.user_id, d.id, d.identity, d.identity_revision,
           sum(octet_length(d.identity)) over (order by d.id) - octet_length(d.identity) < %(bytes)s as fits
    from key_owners(%(user)s, %(users)s) o join devices d on d.user_id = o.user_id
    where d.identity is not null and d.id > %(after)s and d.expires > clock_timestamp() and not d.is_suspended
) f
order by f.id limit %(limit)s;
