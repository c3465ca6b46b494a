-- name: declare
-- A schedule as the code has it. What is there keeps its next tick, unless the rule is another one.
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
select clock_timestamp();

-- name: all
select name, task, rule, zone, missed, next, last, is_paused, clock_timestamp() from schedules order by name;

-- name: fire
-- A tick: so many jobs, and the next tick. Nothing happens if somebody else was quicker. No more than one job of a
-- schedule waits, unless each missed tick is to have its own; what runs is not joined, but followed by another.
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
-- The clock went back after a schedule had fired: its next tick is nearer than it seems.
update schedules set next = %(next)s where name = %(name)s and next = %(seen)s;

-- name: pause
update schedules set is_paused = true where name = %(name)s and not is_paused returning 1;

-- name: resume
update schedules set is_paused = false where name = %(name)s and is_paused returning 1;

-- name: remove
delete from schedules where name = %(name)s returning 1;
