-- name: decide
-- The end of the debounce window: rows that have waited through it become one job offline_notice for each recipient who
-- has not marked the message delivered. If other recipients have it and have not read it, a row of read_windows waits
-- on. All in one transaction, so there is always a row or a job. If a job of the user waits already, only its version
-- grows, and a running job learns that more has come. A message that was deleted meanwhile causes nothing.
with oldest as (
    select id, conversation_id, seq, created from outbox
    order by id limit %(limit)s for update skip locked
), decided as (
    select id, conversation_id, seq, created from oldest
    where created < clock_timestamp() - make_interval(secs => %(window_s)s)
), unread as (
    select d.id, d.conversation_id, d.seq, d.created, p.user_id, p.is_undelivered
    from decided d
    -- The limit makes Postgres look up each by its key: a plan for few rows, or one without statistics, would read
    -- whole tables.
    cross join lateral (
        select from messages m where m.conversation_id = d.conversation_id and m.seq = d.seq and m.deleted is null
          and not m.is_silent and not m.is_quiet limit 1
    ) there
    cross join lateral (
        select p.user_id,
               greatest(p.delivered_seq, p.private_delivered_seq, p.private_read_seq, p.since_seq) < d.seq
                   as is_undelivered
        from participants p
        where p.conversation_id = d.conversation_id and count_base(p) < d.seq
          and wants_notices(p)
          -- A request causes one notice, for its first message that is not quiet.
          and (p.asked_by is null or d.seq = first_counted(d.conversation_id, p.asked_seq))
        offset 0
    ) p
), noticed as (
    insert into jobs (task, payload, key)
    select 'offline_notice', jsonb_build_object('user', w.user_id), w.user_id::text
    from (select distinct user_id from unread where is_undelivered) w order by w.user_id
    on conflict (task, key) where key is not null do update set version = jobs.version + 1, is_cancelled = false
    returning 1
), waiting as (
    insert into read_windows (conversation_id, seq, created)
    select u.conversation_id, u.seq, u.created from unread u where not u.is_undelivered
    group by u.id, u.conversation_id, u.seq, u.created order by u.id
), gone as (
    delete from outbox o where o.id = any(array(select d.id from decided d))
), counted as (
    -- Each message passes here once, silent and quiet ones too, so this counts the messages of each day. It comes last, in key
    -- order: other transactions wait for the row of the day until this commits, and never in a circle.
    insert into analytics (day, metric, value)
    select (d.created at time zone 'UTC')::date, 'messages', count(*) from decided d
    where (select count(*) from noticed) >= 0
    group by 1 order by 1
    on conflict (day, metric) do update set value = analytics.value + excluded.value
)
select (select count(*) from decided), (select count(*) from noticed);

-- name: end_read_windows
-- The end of the read window: if a device of the recipient has marked the message delivered and the recipient has not
-- read it, a job offline_notice is enqueued. Its handler leaves out that device. In one transaction, as above.
with oldest as (
    select id, conversation_id, seq, created, user_id from read_windows
    order by id limit %(limit)s for update skip locked
), ended as (
    select id, conversation_id, seq, user_id from oldest
    where created < clock_timestamp() - make_interval(secs => %(window_s)s)
), noticed as (
    insert into jobs (task, payload, key)
    select 'offline_notice', jsonb_build_object('user', w.user_id), w.user_id::text
    from (
        select distinct p.user_id from ended e
        cross join lateral (
            select from messages m
            where m.conversation_id = e.conversation_id and m.seq = e.seq
              and (m.deleted is null or e.user_id is not null)
            limit 1
        ) there
        cross join lateral (
            select p.user_id from participants p
            where p.conversation_id = e.conversation_id and (e.user_id is null or p.user_id = e.user_id)
              and count_base(p) < e.seq and e.seq <= greatest(p.delivered_seq, p.private_delivered_seq)
              and wants_notices(p) and (p.asked_by is null or e.seq = first_counted(e.conversation_id, p.asked_seq))
            offset 0
        ) p
    ) w order by w.user_id
    on conflict (task, key) where key is not null do update set version = jobs.version + 1, is_cancelled = false
    returning 1
), gone as (
    delete from read_windows r where r.id = any(array(select e.id from ended e))
)
select (select count(*) from ended), (select count(*) from noticed);

-- name: wait_for_read
-- A user has an unread message that was delivered less than a read window ago: a row of read_windows looks at it again
-- at the end of that window. For a notice that was put off, if no message is undelivered by now.
insert into read_windows (conversation_id, seq, created, user_id)
select p.conversation_id, mark.seq, c.active_at, p.user_id
from participants p
cross join lateral (select * from conversations c where c.id = p.conversation_id limit 1) c
cross join lateral (
    -- In a request only the first message that is not quiet counts.
    select least(
        greatest(p.delivered_seq, p.private_delivered_seq),
        case when p.asked_seq is not null then coalesce(first_counted(p.conversation_id, p.asked_seq), 0) end) as seq
) mark
where p.user_id = %(user)s::uuid and wants_notices(p)
  and greatest(count_base(p), c.floor_seq) < mark.seq and unread_count(c, p) > 0
  and c.active_at > clock_timestamp() - make_interval(secs => %(window_s)s)
order by c.active_at desc limit 1;

-- name: is_unread
-- One row if a participant has not read a message.
select 1 from participants p
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid and count_base(p) < %(seq)s;
