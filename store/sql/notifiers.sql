-- name: add
-- See add_notifier() in functions/.
select outcome, id from add_notifier(
    %(id)s::uuid, %(user)s::uuid, %(device)s::uuid, %(kind)s, %(target)s::jsonb, %(target_hash)s, %(limit)s);

-- name: of_user
-- A user's notifiers, the oldest first; e-mail with the user's address, if it is verified.
select n.id, n.device_id, n.target::text, case when n.kind = 'email' then (
           select e.address from emails e where e.user_id = n.user_id and e.verified is not null) end,
       (extract(epoch from n.created) * 1000000)::bigint,
       (extract(epoch from n.failing_since) * 1000000)::bigint, n.last_error
from notifiers n
where n.user_id = %(user)s::uuid and (select d.revoked from devices d where d.id = n.device_id) is null
order by n.created, n.id;

-- name: remove
-- Removes a notifier of a user. No row: the user has no such notifier.
delete from notifiers where id = %(notifier)s::uuid and user_id = %(user)s::uuid returning 1;

-- name: notice_context
-- All that a notice for a user depends on: what waits, how much, the quiet hours, the time, and a row for each notifier
-- that can be told, with its last notice. Notifiers of revoked devices are left out, and e-mail without a verified
-- address. A row without a kind: there is no notifier. No row: there is no such user, or the account is closed or suspended.
-- notifiers: only these; null: all.
-- to_deployment: also the webhook of the deployment.
select w.is_undelivered, coalesce(w.unread_by, '{}'),
       (extract(epoch from w.oldest) * 1000000)::bigint, (extract(epoch from w.newest) * 1000000)::bigint, w.delivered,
       w.read, c.unread + r.requests, c.conversations + r.requests,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint, q.from_minute::bigint, q.until_minute::bigint, q.zone,
       n.kind, n.id, n.device_id, n.target, n.address,
       s.name, (extract(epoch from s.told) * 1000000)::bigint, s.times::bigint, s.unread, s.delivered, s.read,
       s.look is not null
from users u
cross join lateral waiting_of(u.id, make_interval(secs => %(read_after_s)s)) w
cross join lateral unread_of(u.id) c
cross join lateral requests_waiting(u.id) r(requests)
left join quiet_hours q on q.user_id = u.id
left join lateral (
    select n.kind, n.id, n.device_id, n.target::text, e.address, n.created
    from notifiers n left join emails e on n.kind = 'email' and e.user_id = n.user_id and e.verified is not null
    where n.user_id = u.id and (select d.revoked from devices d where d.id = n.device_id) is null
      and (n.kind <> 'email' or e.address is not null)
      and (%(notifiers)s::uuid[] is null or n.id = any(%(notifiers)s::uuid[]))
    union all
    select 'deployment', null, null, null, null, null where %(to_deployment)s
) n on true
left join notices s on s.user_id = u.id and s.notifier_id is not distinct from n.id and n.kind is not null
where u.id = %(user)s::uuid and not u.is_closed and u.suspended is null
order by n.created, n.id;

-- name: enqueue_notices
-- A job for each of these notifiers of a user (null: the deployment's webhook), so that none waits for another. If a
-- job waits with an earlier notice, it takes this one instead and becomes due no later; if its notifier fails, it keeps
-- its time. The name of the notice is the id of the job that it comes from, and that job's version: a repeat has the
-- same name.
with notice as (
    select %(job)s || '-' || coalesce((select j.version from jobs j where j.id = %(job)s::bigint), 1) as name
), chosen as (
    select g.id, g.delay_s, coalesce(g.id::text, 'deployment-' || %(user)s::uuid) as key
    from unnest(%(notifiers)s::uuid[], %(delays_s)s::float8[]) as g(id, delay_s)
), enqueued as (
    insert into jobs (task, payload, key, due)
    select 'notify', jsonb_build_object('notifier', c.id, 'user', %(user)s::uuid, 'notice', notice.name), c.key,
           clock_timestamp() + make_interval(secs => c.delay_s)
    from notice, chosen c
    -- Jobs are locked in the order of their ids, as in end_jobs().
    order by (select j.id from jobs j where j.task = 'notify' and j.key = c.key)
    on conflict (task, key) where key is not null do update
    set version = jobs.version + 1, payload = excluded.payload, is_cancelled = false,
        due = case when jobs.is_handed or jobs.claimed_until is not null or jobs.attempt > 0 then jobs.due
                   else least(jobs.due, excluded.due) end
)
select name from notice;

-- name: note_taken
-- Notes that a notifier took a notice: it is not failing, and the notice is the last one that its user may have seen.
-- No row is written for a notifier that is gone.
with taken as (
    update notifiers n set failing_since = null, failures = 0, last_error = null
    where n.id = %(notifier)s::uuid returning 1
)
insert into notices (user_id, notifier_id, name, told, times, unread, delivered, read, look)
select %(user)s::uuid, %(notifier)s::uuid, %(notice)s, to_timestamp(%(told)s / 1000000.0), %(times)s, %(unread)s,
       %(delivered)s, %(read)s,
       case when %(is_withdrawable)s then clock_timestamp() + make_interval(secs => %(look_s)s) end
from users u where u.id = %(user)s::uuid and (%(notifier)s::uuid is null or exists (select from taken))
on conflict on constraint notices_one do update
set name = excluded.name, told = excluded.told, times = excluded.times, unread = excluded.unread,
    delivered = excluded.delivered, read = excluded.read, look = excluded.look;

-- name: note_withdrawn
-- Notes that a notice is withdrawn, unless a later one has taken its place.
with taken as (
    update notifiers n set failing_since = null, failures = 0, last_error = null where n.id = %(notifier)s::uuid
)
update notices s set unread = 0, look = null
where s.user_id = %(user)s::uuid and s.notifier_id is not distinct from %(notifier)s::uuid and s.name = %(notice)s;

-- name: check_notices_soon
-- These users are reading: their notices are checked in a moment, if they were to be checked later. Few users have any.
-- Rows that are locked are being checked or written now.
with found as (
    select n.id from unnest(%(users)s::uuid[]) g(user_id)
    cross join lateral (
        select s.id from notices s
        where s.user_id = g.user_id and s.look > clock_timestamp() + make_interval(secs => %(delay_s)s)
        for no key update skip locked
    ) n
)
update notices s set look = clock_timestamp() + make_interval(secs => %(delay_s)s)
where s.id = any(array(select f.id from found f));

-- name: enqueue_withdrawals
-- Checks notices that are shown: a notice is pointless if no message from before it is unread. Each pointless one
-- becomes a job notify, which withdraws it. The others are checked again, later the older they are. A withdrawal that
-- fails is asked for again, less and less often. One row: how many were checked, and how many are pointless.
with due as (
    select s.id, s.user_id, s.notifier_id, s.name, s.told from notices s
    where s.look <= clock_timestamp() order by s.look limit %(limit)s for update skip locked
), judged as (
    select due.*, coalesce(w.oldest > due.told, true) as is_pointless
    from due cross join lateral waiting_of(due.user_id, interval '0') w
    offset 0
), moved as (
    update notices s
    set look = case when clock_timestamp() - s.told > make_interval(secs => %(kept_s)s) then null
                    when s.id = any(array(select j.id from judged j where j.is_pointless))
                        then clock_timestamp() + greatest(clock_timestamp() - s.told, make_interval(secs => %(most_s)s))
                    else clock_timestamp() + least(
                        greatest((clock_timestamp() - s.told) / 10, make_interval(secs => %(least_s)s)),
                        make_interval(secs => %(most_s)s)) end
    where s.id = any(array(select j.id from judged j))
), enqueued as (
    insert into jobs (task, payload, key)
    select 'notify', jsonb_build_object('notifier', j.notifier_id, 'user', j.user_id, 'notice', j.name || '-after'),
           j.key
    from (select each.*, coalesce(each.notifier_id::text, 'deployment-' || each.user_id) as key from judged each) j
    where j.is_pointless
    order by (select w.id from jobs w where w.task = 'notify' and w.key = j.key)
    on conflict (task, key) where key is not null do update
    set version = jobs.version + 1, is_cancelled = false,
        due = case when jobs.is_handed or jobs.claimed_until is not null or jobs.attempt > 0 then jobs.due
                   else least(jobs.due, excluded.due) end
    returning 1
)
select (select count(*) from due), (select count(*) from enqueued);

-- name: note_failure
-- Notes that a notifier failed. The user sees the minute alone: the time tells of names in the deployment's network. One row:
-- for how many seconds it has been failing, and how often. No row: it is gone.
update notifiers
set failing_since = coalesce(failing_since, date_trunc('minute', clock_timestamp())),
    failures = failures + 1, last_error = %(error)s
where id = %(notifier)s::uuid
returning extract(epoch from clock_timestamp() - failing_since)::float8, failures::bigint;

-- name: remove_target
-- Removes a notifier whose target is gone, unless it has a new target by now.
delete from notifiers where id = %(notifier)s::uuid and target = %(target)s::jsonb;
