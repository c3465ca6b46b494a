-- Jobs that outlive Redis, what is to be done when, what is paused, and what became of jobs that failed for good.

-- A row lives from its enqueuer's commit until its job has ended. Redis only carries its number.
create table jobs (
    id bigint generated always as identity primary key,
    task text not null check (task ~ '^[a-z][a-z0-9_]{0,62}$'),
    -- The arguments: ids and names of things, never content.
    payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object' and length(payload::text) <= 8192),
    -- Of jobs of one task with one key, one waits at a time.
    key text check (length(key) between 1 and 200),
    -- 0 comes before 1, 1 before 2.
    priority smallint not null default 1 check (priority between 0 and 2),
    created timestamptz not null default clock_timestamp(),
    -- When it is to be handed to Redis: for the first time, after a failed attempt, or for want of a sign of life.
    due timestamptz not null default clock_timestamp(),
    is_handed boolean not null default false,
    -- Raised by whoever enqueues under its key: a run that had begun before is followed by another.
    version int not null default 1,
    -- Runs that were begun.
    attempt int not null default 0,
    -- While it runs: until when it is its worker's, which says again and again that it is.
    claimed_until timestamptz,
    claimed_by text,
    -- An operator does not want it any more; whoever runs it stops.
    is_cancelled boolean not null default false
) with (fillfactor = 70);
create unique index jobs_key on jobs (task, key) where key is not null;
create index jobs_due on jobs (task, priority, due);

-- Enqueue one, in the transaction of whatever it follows from.
--
-- Under a key that a job waits with already, that one gets the newer payload and stays when it is due; with p_max_wait_s
-- it is put off to p_delay_s from now (debounced), but no further than that after it was enqueued first. If it runs
-- already, it runs once more afterwards.
create function enqueue(
    p_task text, p_payload jsonb, p_key text default null, p_delay_s float8 default 0, p_max_wait_s float8 default null,
    p_priority int default 1
) returns bigint language sql as $$
    insert into jobs (task, payload, key, due, priority)
    values (p_task, p_payload, p_key, clock_timestamp() + make_interval(secs => p_delay_s), p_priority)
    on conflict (task, key) where key is not null do update
    set version = jobs.version + 1, payload = excluded.payload, is_cancelled = false,
        priority = least(jobs.priority, excluded.priority),
        due = case when p_max_wait_s is null or jobs.is_handed or jobs.claimed_until is not null then jobs.due
                   else least(excluded.due, jobs.created + make_interval(secs => p_max_wait_s)) end
    returning id
$$;

create table schedules (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    task text not null,
    payload jsonb not null default '{}',
    -- A cron expression, or 'every N s'.
    rule text not null,
    zone text not null default 'UTC',
    -- What becomes of ticks at which no worker was there: none of them, one job for all, or one job for each.
    missed text not null default 'once' check (missed in ('skip', 'once', 'all')),
    next timestamptz not null,
    last timestamptz,
    is_paused boolean not null default false
);

-- Tasks whose jobs wait until an operator says otherwise.
create table paused_tasks (
    task text primary key,
    since timestamptz not null default clock_timestamp()
);

alter table dead_jobs
    -- Null is from before this migration: then user_id is all there was.
    add column payload jsonb,
    add column key text,
    add column priority smallint not null default 1,
    add column traceback text,
    add column enqueued timestamptz,
    -- The name of a job that was in Redis alone.
    add column volatile_id text,
    add constraint dead_jobs_volatile unique (volatile_id);
create index dead_jobs_task on dead_jobs (task, id);

-- Dead jobs keep their numbers: those of notices came from the outbox, and for the release before this one still do.
do $$
begin
    perform setval(pg_get_serial_sequence('jobs', 'id'), (select last_value from outbox_id_seq) + 1000000);
end $$;

-- Notices that wait become jobs; a worker of the release before that still runs may add some to the outbox, which
-- every look of the next release takes over (store/sql/outbox.sql).
insert into jobs (task, payload, key, due)
select task, jsonb_build_object('user', user_id), user_id::text, due from outbox where task = 'offline_notice'
on conflict do nothing;
delete from outbox where task = 'offline_notice';
