-- name: by_name
-- The id of a user who is not deleted.
select u.id from users u where u.username = %(username)s and u.deleted is null;

-- name: by_id
-- The id of a user, deleted ones too.
select u.id from users u where u.id = %(user)s::uuid;

-- name: names_near
-- Names beside a name in the order of names.
(select u.username from users u where u.username >= %(username)s and u.deleted is null
 order by u.username limit %(limit)s)
union all
(select u.username from users u where u.username < %(username)s and u.deleted is null
 order by u.username desc limit %(limit)s);

-- name: account
-- What an operator sees of an account.
select u.username, (extract(epoch from u.created) * 1000000)::bigint,
       (extract(epoch from u.suspended) * 1000000)::bigint, u.is_closed,
       (extract(epoch from u.deleted) * 1000000)::bigint,
       (extract(epoch from d.due) * 1000000)::bigint, d.deletes_messages,
       coalesce(u.password_hash, '') <> '', x.issuer, e.verified is not null,
       (extract(epoch from l.at) * 1000000)::bigint, q.from_minute::bigint, q.until_minute::bigint, q.zone,
       coalesce((select count(*) from unnest(s.at) a where a > clock_timestamp() - interval '1 day'), 0),
       coalesce(a.stored_bytes, 0), (extract(epoch from clock_timestamp()) * 1000000)::bigint
from users u
left join account_deletions d on d.user_id = u.id
left join external_identities x on x.user_id = u.id
left join emails e on e.user_id = u.id
left join last_seen l on l.user_id = u.id
left join quiet_hours q on q.user_id = u.id
left join starts s on s.user_id = u.id
left join attachment_usage a on a.user_id = u.id
where u.id = %(user)s::uuid;

-- name: devices
-- The devices of some users that are logged in, or ended lately; those that were used last first.
select d.user_id, d.id, d.name, d.client, (extract(epoch from d.created) * 1000000)::bigint,
       (extract(epoch from d.last_used) * 1000000)::bigint, (extract(epoch from d.expires) * 1000000)::bigint,
       (extract(epoch from d.revoked) * 1000000)::bigint,
       case when d.is_reused then 'token reused' when d.revoked is not null then 'revoked'
            when d.expires <= now() then 'expired' when d.is_suspended then 'suspended' else 'good' end
from unnest(%(users)s::uuid[]) g(user_id)
cross join lateral (
    select d.* from devices d where d.user_id = g.user_id and d.family_hash is not null
    order by d.last_used desc limit %(limit)s
) d;

-- name: behind
-- Conversations of a user with messages that no device of the user has marked delivered, those with the latest message
-- first.
select p.conversation_id, c.last_seq, mark.delivered, mark.delivered_by,
       (extract(epoch from c.active_at) * 1000000)::bigint
from participants p
cross join lateral (select * from conversations c where c.id = p.conversation_id limit 1) c
cross join lateral (
    select greatest(p.delivered_seq, p.private_delivered_seq, p.private_read_seq, p.since_seq, p.joined_seq,
                    c.floor_seq) as delivered, p.delivered_by
) mark
where p.user_id = %(user)s::uuid and mark.delivered < c.last_seq
order by c.active_at desc limit %(limit)s;

-- name: notifiers
-- The notifiers of some users, and the deployment's webhook, each with the last notice that it took and the job that is
-- to tell it. A row without kind: of the webhook of the deployment, if that has told the user anything or is to.
select g.user_id, n.id, n.kind, n.device_id, (extract(epoch from n.failing_since) * 1000000)::bigint,
       n.failures::bigint, n.last_error, (extract(epoch from s.told) * 1000000)::bigint, s.unread,
       j.id, (extract(epoch from j.due) * 1000000)::bigint, j.attempt::bigint,
       coalesce(j.claimed_until, '-infinity') >= clock_timestamp()
from unnest(%(users)s::uuid[]) g(user_id)
cross join lateral (
    select n.id, n.kind, n.device_id, n.failing_since, n.failures, n.last_error, n.created
    from notifiers n where n.user_id = g.user_id
    union all select null, null, null, null, null, null, null
) n
left join lateral (
    select * from notices s where s.user_id = g.user_id and s.notifier_id is not distinct from n.id limit 1
) s on true
left join lateral (
    select * from jobs j where j.task = 'notify' and j.key = coalesce(n.id::text, 'deployment-' || g.user_id) limit 1
) j on true
where n.kind is not null or s.id is not null or j.id is not null
order by g.user_id, n.created, n.id;

-- name: notice_jobs
-- The jobs that decide on the notices of some users.
select g.user_id, j.id, (extract(epoch from j.due) * 1000000)::bigint, j.attempt::bigint,
       coalesce(j.claimed_until, '-infinity') >= clock_timestamp()
from unnest(%(users)s::uuid[]) g(user_id)
cross join lateral (select j.* from jobs j where j.task = 'offline_notice' and j.key = g.user_id::text limit 1) j;

-- name: dead_jobs
-- The dead jobs about some users, the latest first.
select g.user_id, j.id, j.task, (extract(epoch from j.died) * 1000000)::bigint, j.reason
from unnest(%(users)s::uuid[]) g(user_id)
cross join lateral (
    select * from (
        -- The offset makes Postgres find them by the user. Without it, it may go through all dead jobs by id.
        select j.* from dead_jobs j where j.payload ->> 'user' = g.user_id::text offset 0
    ) j order by j.id desc limit %(limit)s
) j;
