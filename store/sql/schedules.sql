-- name: declare
-- Stores a schedule as the code declares it. A known schedule keeps its next tick, unless the rule has changed.
insert into schedules (name, task, payload, rule, zone, missed, next)
values (%(name)s, %(task)s, %(payload)s::jsonb, %(rule)s, %(zone)s, %(missed)s, %(next)s)
on conflict (name) do update
set task = excluded.task, payload = excluded.payload, rule = excluded.rule, zone = excluded.zone,
    missed = excluded.missed,
    next = case when (schedules.rule, schedules.zone) = (excluded.rule, excluded.zone) then schedules.next
                else excluded.next end
where (schedules.task, schedules.payload, schedules.rule, schedules.zone, schedules.missed)
      is distinct from (excluded.task, excluded.payload, excluded.rule, excluded.zone, excluded.missed);

-- name: now
-- The time of Postgres.
select clock_timestamp();

-- name: all
-- All schedules.
select name, task, rule, zone, missed, next, last, is_paused, clock_timestamp() from schedules order by name;

-- name: fire
-- Enqueues the jobs of a tick, and notes the next tick. Nothing happens if another worker was faster. At most one job
-- of a schedule waits, unless each missed tick gets its own; a running job is followed by another.
with fired as (
    update schedules set next = %(next)s, last = clock_timestamp()
    where name = %(name)s and next = %(seen)s and not is_paused
    returning name, task, payload
), added as (
    insert into jobs (task, payload, key)
    select f.task, f.payload, case when %(is_one)s then 'schedule ' || f.name end
    from fired f cross join generate_series(1, %(jobs)s)
    on conflict (task, key) where key is not null do update
    set version = jobs.version + (jobs.claimed_until is not null)::int, is_cancelled = false
)
select count(*) from fired;

-- name: mend
-- Corrects the next tick after Postgres' clock went back: it is nearer than it seems.
update schedules set next = %(next)s where name = %(name)s and next = %(seen)s;

-- name: pause
-- Pauses a schedule. No row: unknown, or paused already.
update schedules set is_paused = true where name = %(name)s and not is_paused returning 1;

-- name: resume
-- Resumes a schedule. No row: unknown, or not paused.
update schedules set is_paused = false where name = %(name)s and is_paused returning 1;

-- name: remove
-- Removes a schedule. No row: unknown.
delete from schedules where name = %(name)s returning 1;
