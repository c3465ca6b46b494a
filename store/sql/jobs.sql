-- name: enqueue
-- Enqueues a job under a key. The row: its id, and whether the caller is to hand it to Redis. If that fails, the job is
-- due again after the lease.
select e.id, e.is_handed
from enqueue_at_once(%(task)s, %(payload)s::jsonb, %(key)s, %(delay_s)s::float8, %(max_wait_s)s::float8, %(priority)s,
                     %(lease_s)s::float8) e;

-- name: enqueue_plain
-- Enqueues several jobs without a key, in one insert. Returns their ids in the order given. Those that are handed to
-- Redis are due again after their wait.
insert into jobs (task, payload, due, is_handed, priority)
select p.task, p.payload::jsonb, clock_timestamp() + p.wait_ms * interval '1 ms', p.is_handed, p.priority
from unnest(%(tasks)s, %(payloads)s, %(priorities)s, %(waits_ms)s, %(are_handed)s)
     with ordinality as p(task, payload, priority, wait_ms, is_handed, n)
order by p.n
returning id;

-- name: relay
-- Takes due jobs to hand to Redis: for each task and priority as many as there is room for. Each is due again after the
-- lease, unless a worker claims it. Jobs of paused tasks stay.
with room as (
    select r.task, r.priority, r.room from unnest(%(tasks)s, %(priorities)s, %(rooms)s) as r(task, priority, room)
    where not exists (select from paused_tasks p where p.task = r.task)
), found as (
    select j.id, j.due from room r cross join lateral (
        select id, due from jobs
        where task = r.task and priority = r.priority and due <= clock_timestamp()
          and coalesce(claimed_until, '-infinity') < clock_timestamp()
        order by due limit r.room for update skip locked
    ) j
)
-- As an array: without it, Postgres expects far more rows and reads all waiting jobs.
update jobs j set is_handed = true, due = clock_timestamp() + %(lease_ms)s * interval '1 ms'
from found where j.id = found.id and j.id = any(array(select f.id from found f))
returning j.id, j.task, j.priority::bigint, (extract(epoch from clock_timestamp() - found.due) * 1000)::bigint;

-- name: release
-- Redis did not take these jobs: they are due now. Locked in the order of their ids, as everywhere.
with back as (
    select id from jobs where id = any(%(ids)s) and is_handed and claimed_until is null order by id for update
)
update jobs j set is_handed = false, due = clock_timestamp() from back where j.id = back.id;

-- name: release_all
-- Redis has lost its entries: jobs that were handed to it and do not run are due now. A running job is due when its
-- claim ends, since no entry is left for another worker to take over.
with back as (
    select id, coalesce(claimed_until, '-infinity') >= clock_timestamp() as runs
    from jobs where is_handed order by id for update
)
update jobs j
set is_handed = back.runs, due = case when back.runs then least(j.due, j.claimed_until) else clock_timestamp() end
from back where j.id = back.id;

-- name: shorten_leases
-- Postgres' clock went back: corrects the times of jobs that would otherwise be due, or free, too late. A running job
-- stays with its worker while that beats. Running it twice changes nothing.
with late as (
    select id, coalesce(claimed_until, '-infinity') >= clock_timestamp() as runs, clock_timestamp() as now,
           clock_timestamp() + make_interval(secs => %(claim_s)s) as free
    from jobs
    where is_handed and due > clock_timestamp() + make_interval(secs => 2 * %(lease_s)s)
       or claimed_until > clock_timestamp() + make_interval(secs => 2 * %(claim_s)s)
       or created > clock_timestamp() + make_interval(secs => %(slack_s)s)
    order by id for update
)
update jobs j
set created = least(j.created, late.now),
    claimed_until = case when late.runs then least(j.claimed_until, late.free) else j.claimed_until end,
    is_handed = late.runs,
    due = case when late.runs then least(j.due, late.free)
               when j.is_handed then late.now
               else j.due - greatest(j.created - late.now, interval '0') end
from late where j.id = late.id;

-- name: next_due
-- The time of Postgres, and when the next job of these tasks is due, in ms since 1970.
select (extract(epoch from clock_timestamp()) * 1000)::bigint, (
    select (extract(epoch from min(d.due)) * 1000)::bigint
    from unnest(%(tasks)s) as t(task) cross join generate_series(0, 2) as p(priority) cross join lateral (
        select j.due from jobs j
        where j.task = t.task and j.priority = p.priority
          and coalesce(j.claimed_until, '-infinity') < clock_timestamp()
        order by j.due limit 1) d
    where not exists (select from paused_tasks x where x.task = t.task));

-- name: claim
-- A worker begins to run jobs. A row for each; see claim_jobs() in functions/.
select c.* from claim_jobs(%(ids)s, %(worker)s, %(claim_ms)s) c;

-- name: beat
-- A worker says which jobs it still runs; see beat_jobs() in functions/.
select b.* from beat_jobs(%(ids)s, %(worker)s, %(claim_ms)s) b;

-- name: end
-- See end_jobs() in functions/.
select end_jobs(%(ids)s, %(versions)s, %(outcomes)s, %(delays_ms)s, %(reasons)s, %(tracebacks)s, %(worker)s);

-- name: add_dead_volatile
-- Keeps a volatile job as dead, which was in Redis alone. A repeat changes nothing.
insert into dead_jobs (id, task, payload, priority, attempts, reason, traceback, volatile_id)
values (nextval('jobs_id_seq'), %(task)s, %(payload)s::jsonb, %(priority)s, %(attempts)s, %(reason)s, %(traceback)s,
        %(volatile_id)s)
on conflict (volatile_id) do nothing;

-- name: cancel
-- Cancels a job: a waiting job is deleted, and a running one is stopped by its worker. No row: there is no such job.
with job as (
    select id, coalesce(claimed_until, '-infinity') >= clock_timestamp() as runs from jobs where id = %(id)s for update
), gone as (
    delete from jobs j using job where j.id = job.id and not job.runs
), told as (
    update jobs j set is_cancelled = true from job where j.id = job.id and job.runs
)
select runs from job;

-- name: state
-- The state of a job: 'running', 'waiting' (handed to Redis, or due), 'delayed' or 'dead'. No row: it has ended, or
-- never was.
select case when coalesce(claimed_until, '-infinity') >= clock_timestamp() then 'running'
            when is_handed or due <= clock_timestamp() then 'waiting' else 'delayed' end, attempt, null
from jobs where id = %(id)s
union all
select 'dead', attempts, reason from dead_jobs where id = %(id)s;

-- name: task_statuses
-- For each task that has jobs or is paused: how many wait (and for how many seconds the oldest has been due), are
-- delayed, run, or are dead.
select t.task, t.waiting, t.delayed, t.running, t.dead, t.oldest_s, x.since is not null
from (
    select task, sum(waiting)::bigint as waiting, sum(delayed)::bigint as delayed, sum(running)::bigint as running,
           sum(dead)::bigint as dead, max(oldest_s)::float8 as oldest_s
    from (
        select task,
               count(*) filter (where not runs and (is_handed or due <= clock_timestamp())) as waiting,
               count(*) filter (where not runs and not is_handed and due > clock_timestamp()) as delayed,
               count(*) filter (where runs) as running,
               0 as dead,
               extract(epoch from clock_timestamp() - min(
                   case when is_handed then least(due, created) else due end)
                   filter (where not runs and (is_handed or due <= clock_timestamp()))) as oldest_s
        from (select *, coalesce(claimed_until, '-infinity') >= clock_timestamp() as runs from jobs) j
        group by task
        union all
        select task, 0, 0, 0, count(*), null from dead_jobs group by task
        union all
        select task, 0, 0, 0, 0, null from paused_tasks
    ) parts group by task
) t left join paused_tasks x on x.task = t.task
order by t.task;

-- name: dead_jobs
-- Dead jobs, the latest first.
select id, task, payload::text, attempts::bigint, reason, traceback,
       (extract(epoch from died) * 1000)::bigint
from dead_jobs
where (%(task)s::text is null or task = %(task)s) and (%(id)s::bigint is null or id = %(id)s)
  and (%(before)s::bigint is null or id < %(before)s)
order by id desc limit %(limit)s;

-- name: replay
-- Enqueues dead jobs again, as new jobs. One row: how many. If a job waits under the same key, no second one is added.
with chosen as (
    select id from dead_jobs
    where (%(task)s::text is null or task = %(task)s) and (%(id)s::bigint is null or id = %(id)s)
    order by id limit %(limit)s for update skip locked
), gone as (
    delete from dead_jobs d where d.id = any(array(select c.id from chosen c))
    returning d.id, d.task, d.payload, d.key, d.priority
), again as (
    insert into jobs (task, payload, key, priority)
    select task, payload, key, priority from gone order by task, key, id
    on conflict (task, key) where key is not null do nothing
)
select count(*) from gone;

-- name: discard
-- Deletes dead jobs. One row: how many.
with chosen as (
    select id from dead_jobs
    where (%(task)s::text is null or task = %(task)s) and (%(id)s::bigint is null or id = %(id)s)
    order by id limit %(limit)s for update skip locked
), gone as (
    delete from dead_jobs d where d.id = any(array(select c.id from chosen c)) returning 1
)
select count(*) from gone;

-- name: forget_dead
-- Deletes dead jobs that are older than the given days. One row: how many.
with old as (
    select id from dead_jobs where died < clock_timestamp() - make_interval(days => %(days)s)
    order by died limit %(limit)s for update skip locked
), gone as (
    delete from dead_jobs d where d.id = any(array(select old.id from old)) returning 1
)
select count(*) from gone;

-- name: paused_tasks
-- The paused tasks.
select task from paused_tasks;

-- name: pause
-- Pauses a task. No row: it is paused already.
insert into paused_tasks (task) values (%(task)s) on conflict do nothing returning 1;

-- name: resume
-- Resumes a task. No row: it is not paused.
delete from paused_tasks where task = %(task)s returning 1;
