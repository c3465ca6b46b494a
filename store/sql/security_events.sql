-- name: note
-- See note_security_event() in functions/.
select note_security_event(
    %(kind)s, %(user)s::uuid, %(source)s::jsonb, %(detail)s::jsonb, p_is_counted => %(is_counted)s);

-- name: of_user
-- A page of the events of a user, the newest first.
select e.id, e.kind, e.user_id, (extract(epoch from e.at) * 1000000)::bigint, e.actor, e.device_id, e.network::text,
       e.client, e.detail::text, e.times, (extract(epoch from e.last) * 1000000)::bigint, e.operator
from security_events e
where e.user_id = %(user)s::uuid and e.id < %(before)s order by e.id desc limit %(limit)s;

-- name: of_all
-- A page of the events of all users, and of the operators' actions, the newest first.
select e.id, e.kind, e.user_id, (extract(epoch from e.at) * 1000000)::bigint, e.actor, e.device_id, e.network::text,
       e.client, e.detail::text, e.times, (extract(epoch from e.last) * 1000000)::bigint, e.operator
from security_events e
where e.id < %(before)s order by e.id desc limit %(limit)s;

-- name: recent
-- The events of all users and operators since a time, the newest first. A counted event may have begun an hour before.
select e.id, e.kind, e.user_id, (extract(epoch from e.at) * 1000000)::bigint, e.actor, e.device_id, e.network::text,
       e.client, e.detail::text, e.times, (extract(epoch from e.last) * 1000000)::bigint, e.operator
from security_events e
where e.at >= to_timestamp(%(since)s / 1000000.0) - interval '1 hour'
  and coalesce(e.last, e.at) >= to_timestamp(%(since)s / 1000000.0)
order by e.at desc, e.id desc limit %(limit)s;

-- name: forget
-- Deletes events from more than the given days ago, a batch at a time. One row: how many.
with old as (
    select e.id from security_events e where e.at < now() - make_interval(days => %(days)s)
    order by e.at limit %(limit)s for update skip locked
), gone as (
    delete from security_events e using old o where e.id = o.id returning 1
)
select count(*) from gone;
