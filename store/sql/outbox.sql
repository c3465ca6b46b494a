-- name: decide
-- The end of the debounce window: message rows that have waited through it become one job offline_notice for each
-- recipient who has not marked them delivered, or nothing. One transaction: there is no moment without a row. A
-- user's notices are merged into the one that waits; its version tells a running job that more has come.
with oldest as (
    select id, conversation_id, seq, created from outbox
    order by id limit %(limit)s for update skip locked
), decided as (
    select id, conversation_id, seq, created from oldest
    where created < clock_timestamp() - make_interval(secs => %(window_s)s)
), absent as (
    select p.user_id from decided d
    join participants p on p.conversation_id = d.conversation_id
    where greatest(p.delivered_seq, p.private_read_seq, p.joined_seq) < d.seq
      and coalesce(p.muted_until, '-infinity') < clock_timestamp()
), noticed as (
    insert into jobs (task, payload, key)
    select 'offline_notice', jsonb_build_object('user', w.user_id), w.user_id::text
    from (select distinct user_id from absent) w order by w.user_id
    on conflict (task, key) where key is not null do update set version = jobs.version + 1, is_cancelled = false
    returning 1
), gone as (
    delete from outbox o using decided d where o.id = d.id
), counted as (
    -- Each message passes here once, silent ones too: so the messages of each day are counted, in the same transaction.
    -- As late as can be, and in key order: others wait for the row of the day until this commits, and never in a circle.
    insert into analytics (day, metric, value)
    select (d.created at time zone 'UTC')::date, 'messages', count(*) from decided d
    where (select count(*) from noticed) >= 0
    group by 1 order by 1
    on conflict (day, metric) do update set value = analytics.value + excluded.value
)
select (select count(*) from decided), (select count(*) from noticed);
