-- name: today
-- The date in UTC.
select (now() at time zone 'UTC')::date;

-- name: unclosed
-- The first day that is not closed, if it ended more than grace_s seconds ago; if no day was closed, the day of the
-- first user. One row: that day or null, and today.
with today as (
    select (now() at time zone 'UTC')::date as day
), first as (
    select coalesce((select (p.upto at time zone 'UTC')::date from progress p where p.task = 'analytics'),
                    (select (min(u.created) at time zone 'UTC')::date from users u), t.day) as day
    from today t
)
select case when (f.day + 1)::timestamp at time zone 'UTC' + make_interval(secs => %(grace_s)s) <= now()
            then f.day end, t.day
from first f, today t;

-- name: count_day
-- Counts the figures of one day, from rows that are still there. It may run again: a figure never decreases, so rows
-- that were removed since still count. Users count by their creation time. Messages are counted with the outbox (decide
-- in outbox.sql); this only makes their row.
with span as (
    select %(day)s::date as day, %(day)s::date::timestamp at time zone 'UTC' as begins,
           (%(day)s::date + 1)::timestamp at time zone 'UTC' as ends
), found as (
    select 'new_users' as metric,
           (select count(*) from users u where u.created >= s.begins and u.created < s.ends) as value
    from span s
    union all
    select 'active_users', (select count(*) from activity a where a.day = s.day)
    from span s
    union all
    select 'messages', 0
)
insert into analytics (day, metric, value)
-- In key order, like all writers of this table, so that they never wait for each other in a circle.
select s.day, f.metric, f.value from found f, span s order by f.metric
on conflict (day, metric) do update set value = greatest(analytics.value, excluded.value);

-- name: close_day
-- Notes that the days up to this one need no further work.
insert into progress (task, upto) values ('analytics', (%(day)s::date + 1)::timestamp at time zone 'UTC')
on conflict (task) do update set upto = greatest(progress.upto, excluded.upto);

-- name: note_storage
-- Notes the bytes of tables and indexes, those of messages apart; the last look of a day counts.
with relation as (
    select c.relname in ('messages', 'envelopes', 'sends', 'outbox', 'revisions', 'hidden', 'attachments') as is_of_messages,
           pg_table_size(c.oid) as table_bytes, pg_indexes_size(c.oid) as index_bytes
    from pg_class c
    where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'm')
), part as (
    select coalesce(sum(r.table_bytes) filter (where r.is_of_messages), 0) as message_tables,
           coalesce(sum(r.index_bytes) filter (where r.is_of_messages), 0) as message_indexes,
           coalesce(sum(r.table_bytes) filter (where not r.is_of_messages), 0) as other_tables,
           coalesce(sum(r.index_bytes) filter (where not r.is_of_messages), 0) as other_indexes
    from relation r
)
insert into analytics (day, metric, value)
select (now() at time zone 'UTC')::date, m.metric, m.value
from part p, lateral (values
    ('bytes_message_indexes', p.message_indexes), ('bytes_message_tables', p.message_tables),
    ('bytes_other_indexes', p.other_indexes), ('bytes_other_tables', p.other_tables)) m (metric, value)
order by m.metric
on conflict (day, metric) do update set value = excluded.value;

-- name: has_objects
-- Whether the size of the object store was noted today.
select exists (select from analytics where day = (now() at time zone 'UTC')::date and metric = 'bytes_objects');

-- name: note_objects
-- Notes the bytes in the object store.
insert into analytics (day, metric, value)
values ((now() at time zone 'UTC')::date, 'bytes_objects', %(bytes)s)
on conflict (day, metric) do update set value = excluded.value;

-- name: add_missing
-- Adds attachments whose objects were found missing.
insert into analytics (day, metric, value)
values ((now() at time zone 'UTC')::date, 'attachments_missing', %(attachments)s)
on conflict (day, metric) do update set value = analytics.value + excluded.value;

-- name: forget_activity
-- Deletes rows of activity of days that ended long ago and were counted, a batch at a time. One row: how many.
with old as (
    select a.day, a.user_id from activity a
    where a.day < (now() at time zone 'UTC')::date - %(days)s::int
      and a.day < (select (p.upto at time zone 'UTC')::date from progress p where p.task = 'analytics')
    order by a.day, a.user_id limit %(limit)s
), gone as (
    delete from activity a using old o where a.day = o.day and a.user_id = o.user_id returning 1
)
select count(*) from gone;

-- name: figures
-- The figures of some days.
select a.day, a.metric, a.value from analytics a where a.day between %(first)s and %(last)s;

-- name: attachments_before
-- The attachments that were stored when a day began, and their bytes: those of now, without all changes since.
select (t.complete_files - coalesce(sum(a.value) filter (where a.metric = 'attachments_uploaded'), 0)
            + coalesce(sum(a.value) filter (where a.metric = 'attachments_removed'), 0))::bigint,
       (t.complete_bytes - coalesce(sum(a.value) filter (where a.metric = 'attachment_bytes_uploaded'), 0)
            + coalesce(sum(a.value) filter (where a.metric = 'attachment_bytes_removed'), 0))::bigint
from attachment_total t
-- The last day is one that may begin while this runs. With both bounds Postgres takes the index.
left join analytics a on a.day between %(day)s and (now() at time zone 'UTC')::date + 1
group by t.complete_files, t.complete_bytes;

-- name: latencies
-- The latencies of deliveries on some days.
select l.day, l.bucket, l.count from latencies l where l.day between %(first)s and %(last)s;

-- name: add_latencies
-- Adds the samples that a gateway has gathered. In key order, so that two gateways never wait for each other in a
-- circle.
insert into latencies (day, bucket, count)
select date '1970-01-01' + g.day::int, g.bucket, g.count
from unnest(%(days)s, %(buckets)s, %(counts)s) as g(day, bucket, count)
order by g.day, g.bucket
on conflict (day, bucket) do update set count = latencies.count + excluded.count;
