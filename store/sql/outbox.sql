-- name: decide
-- The end of the debounce window: message rows that have waited through it become one offline_notice row for each
-- recipient who has not marked them delivered, or nothing. One transaction: there is no moment without a row. A
-- user's notices are merged into the one that waits; its version tells a running job that more has come.
with oldest as (
    select id, conversation_id, seq, created from outbox where task = 'message'
    order by id limit %(limit)s for update skip locked
), decided as (
    select id, conversation_id, seq from oldest
    where created < clock_timestamp() - make_interval(secs => %(window_s)s)
), absent as (
    select distinct p.user_id from decided d
    join participants p on p.conversation_id = d.conversation_id
    where greatest(p.delivered_seq, p.private_read_seq, p.joined_seq) < d.seq
      and coalesce(p.muted_until, '-infinity') < clock_timestamp()
), noticed as (
    insert into outbox (task, user_id, due)
    select 'offline_notice', a.user_id, clock_timestamp() from absent a order by a.user_id
    on conflict (user_id) where task = 'offline_notice' do update set version = outbox.version + 1
    returning 1
), gone as (
    delete from outbox o using decided d where o.id = d.id
)
select (select count(*) from decided), (select count(*) from noticed);

-- name: relay
-- Notices that are due, to be handed to Redis. Each is due again after the lease, should its job give no sign of life.
update outbox set due = clock_timestamp() + make_interval(secs => %(lease_s)s)
where id in (
    select id from outbox where task = 'offline_notice' and due <= clock_timestamp()
    order by due limit %(limit)s for update skip locked
)
returning id;

-- name: start
-- What a job needs to know; no row: it has ended already. wanted: something is still undelivered.
select o.user_id, o.version, o.attempt, exists (
    select from participants p join conversations c on c.id = p.conversation_id
    where p.user_id = o.user_id and greatest(p.delivered_seq, p.private_read_seq, p.joined_seq) < c.last_seq
      and coalesce(p.muted_until, '-infinity') < clock_timestamp()
) from outbox o where o.id = %(id)s and o.task = 'offline_notice';

-- name: end_job
-- The job has ended: its row goes, unless more has come meanwhile; then it is due at once, as a new job. The row is
-- locked first, and read as it is then: a window whose end is being committed counts.
with job as (
    select id, version from outbox where id = %(id)s and task = 'offline_notice' for update
), gone as (
    delete from outbox o using job where o.id = job.id and job.version = %(version)s
)
update outbox o set due = clock_timestamp(), attempt = 0
from job where o.id = job.id and job.version <> %(version)s;

-- name: retry
-- The job has failed: another attempt later.
update outbox set attempt = %(attempt)s, due = clock_timestamp() + make_interval(secs => %(delay_s)s)
where id = %(id)s and task = 'offline_notice';

-- name: bury
-- The job has failed too often: to the dead jobs, with the reason.
with gone as (
    delete from outbox where id = %(id)s and task = 'offline_notice' returning id, task, user_id
)
insert into dead_jobs (id, task, user_id, attempts, reason)
select id, task, user_id, %(attempt)s, %(reason)s from gone
on conflict (id) do nothing;
