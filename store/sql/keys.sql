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
select n, owner_id, device, identity, identity_revision, key_kind, key_number, key_bytes, is_last_resort, has_more,
       is_locked, is_low
from claim_keys(
    %(waits)s, %(user)s, %(after)s, %(limit)s, %(bytes)s, %(of)s, %(other)s, %(kinds)s, %(most)s, %(few)s);

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

-- name: end_expired_identities
-- Takes their identities from the devices of one user that have expired, the user whose device expired first. One row: how
-- many devices; 0: there is no such user. One user at a time, since the conversations of each are locked in the order of
-- their ids (note_identity).
with gone as (
    update devices d set identity = null
    where d.identity is not null and d.expires < clock_timestamp() and d.user_id = (
        select e.user_id from devices e
        where e.identity is not null and e.expires < clock_timestamp() order by e.expires limit 1
    )
    returning 1
)
select count(*) from gone;

-- name: shown_among
-- Those of some users who take part in a conversation, as the others see it.
select p.user_id from shown_participants p
where p.conversation_id = %(conversation)s and p.user_id = any(%(users)s);

-- name: small_changes
-- The conversations, with at most %(most)s participants, whose device set the devices of some users have changed in the last
-- minute: the user, the version of the set then, that of the last change before it by another user, and the participants. A user
-- whose change before it is no longer known has changed again since, with a greater version than this one.
select d.conversation_id, d.user_id, d.version,
       coalesce((
           select max(o.version) from device_changes o
           where o.conversation_id = d.conversation_id and o.user_id <> d.user_id and o.version < d.version
       ), 0),
       (select array_agg(p.user_id) from participants p where p.conversation_id = d.conversation_id)
from device_changes d
join conversations c on c.id = d.conversation_id and c.participant_count <= %(most)s
where d.user_id = any(%(users)s::uuid[])
  and d.version > (extract(epoch from clock_timestamp()) * 1000000)::bigint - 60000000;
