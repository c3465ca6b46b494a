-- name: add
-- See add_notifier() in functions/.
select outcome, id from add_notifier(
    %(id)s::uuid, %(user)s::uuid, %(device)s::uuid, %(kind)s, %(target)s::jsonb, %(target_hash)s, %(limit)s);

-- name: of_user
-- A user's notifiers, the oldest first; e-mail with the user's address, if it is verified.
select n.id, n.device_id, n.target::text, case when n.kind = 'email' then (
           select e.address from emails e where e.user_id = n.user_id and e.verified is not null) end, (extract(epoch from n.created) * 1000000)::bigint,
       (extract(epoch from n.failing_since) * 1000000)::bigint, n.last_error
from notifiers n
where n.user_id = %(user)s::uuid and (select d.revoked from devices d where d.id = n.device_id) is null
order by n.created, n.id;

-- name: remove
-- A user does not want this one any more; no row: it is none of theirs.
delete from notifiers where id = %(notifier)s::uuid and user_id = %(user)s::uuid returning 1;

-- name: look
-- What a notice for a user depends on: whether something is still undelivered that may be read and is not muted; the
-- quiet hours, and what time it is. No row: there is no such user.
select exists (
    select from participants p join conversations c on c.id = p.conversation_id
    where p.user_id = u.id
      and greatest(p.delivered_seq, p.private_read_seq, p.joined_seq, c.floor_seq) < c.last_seq
      and coalesce(p.muted_until, '-infinity') < clock_timestamp()
), (extract(epoch from clock_timestamp()) * 1000000)::bigint, q.from_minute::bigint, q.until_minute::bigint, q.zone
from users u left join quiet_hours q on q.user_id = u.id
where u.id = %(user)s::uuid;

-- name: hand_out
-- A job for each notifier of a user, in the transaction in which that is decided, so that none waits for another; one
-- that waits with the notice before takes this one instead. The notice is named by the job that it comes from and by
-- how often more has come for that one: once more, it has the same name.
with notice as (
    select %(job)s || '-' || coalesce((select j.version from jobs j where j.id = %(job)s::bigint), 1) as name
), chosen as (
    select c.id, c.key from (
        select n.id, n.id::text as key from notifiers n
        where n.user_id = %(user)s::uuid and (select d.revoked from devices d where d.id = n.device_id) is null
          and (n.kind <> 'email' or exists (
              select from emails e where e.user_id = n.user_id and e.verified is not null))
        union all
        select null, 'deployment-' || %(user)s::uuid where %(to_deployment)s
    ) c
    -- Jobs are locked by their ids, as where they end.
    order by (select j.id from jobs j where j.task = 'notify' and j.key = c.key)
    offset 0
), enqueued as (
    select enqueue('notify', jsonb_build_object('notifier', c.id, 'user', %(user)s::uuid, 'notice', notice.name),
                   p_key => c.key)
    from chosen c, notice
)
select (select name from notice), (select count(*) from enqueued);

-- name: chosen
-- Where a notice is to go, and the user's address, if it is verified; no row: the notifier is gone, or its device was
-- revoked.
select n.target::text, n.notice, case when n.kind = 'email' then (
           select e.address from emails e where e.user_id = n.user_id and e.verified is not null) end
from notifiers n
where n.id = %(notifier)s::uuid and (select d.revoked from devices d where d.id = n.device_id) is null;

-- name: took
-- The notifier took this notice.
update notifiers set notice = %(notice)s, failing_since = null, failures = 0, last_error = null
where id = %(notifier)s::uuid;

-- name: failed
-- The notifier failed: since when it does (seconds), how often it has. No row: it is gone.
update notifiers
set failing_since = coalesce(failing_since, clock_timestamp()), failures = failures + 1, last_error = %(error)s
where id = %(notifier)s::uuid
returning extract(epoch from clock_timestamp() - failing_since)::float8, failures::bigint;

-- name: forget
-- The notifier's target is gone. Unless it has another one by now.
delete from notifiers where id = %(notifier)s::uuid and target = %(target)s::jsonb;
