-- name: put_keys
-- See publish_keys() in functions/.
select outcome, identity, identity_revision, history, kind, count, first, highest, digest, last_resort, is_given
from publish_keys(
    %(device)s, %(identity)s, %(history)s, %(kinds)s, %(numbers)s, %(keys)s, %(last_kinds)s, %(last_numbers)s,
    %(last_keys)s, %(is_anew)s, %(most)s, %(most_kinds)s, %(few)s);

-- name: status
-- See key_status() in functions/.
select identity, identity_revision, history, kind, count, first, highest, digest, last_resort, is_given
from key_status(%(device)s::uuid);

-- name: devices
-- See list_devices() in functions/.
select owner_id, device, identity, identity_revision
from list_devices(%(user)s, %(users)s, %(after)s, %(limit)s, %(bytes)s);

-- name: claim
-- See claim_keys() in functions/.
select owner_id, device, identity, identity_revision, key_kind, key_number, key_bytes, is_last_resort, has_more
from claim_keys(
    %(user)s, %(users)s, %(kinds)s, %(after)s, %(limit)s, %(bytes)s, %(most)s, %(few)s);

-- name: low_since
-- The devices that were found lately to be low on keys of some kinds, with these, and when that was.
select d.user_id, p.device_id, array_agg(p.kind order by p.kind), (extract(epoch from max(p.low)) * 1000000)::bigint
from key_pools p join devices d on d.id = p.device_id
where p.low between now() - make_interval(secs => %(ago_s)s) and 'infinity'
group by d.user_id, p.device_id;

-- name: forget_claims
-- Deletes counts of claims from before the last hour, a batch at a time. One row: how many.
with gone as (
    delete from key_claims c where c.ctid = any(array(
        select o.ctid from key_claims o where o.since < now() - interval '1 hour'
        order by o.since limit %(limit)s for update skip locked
    )) returning 1
)
select count(*) from gone;
