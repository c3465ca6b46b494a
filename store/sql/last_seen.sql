-- name: touch
-- Notes that users were online so long ago, and were active on that day. In key order, so that two nodes never
-- deadlock.
with given as materialized (
    select u.id as user_id, now() - g.ago_us * interval '1 microsecond' as at
    from unnest(%(users)s, %(ago_us)s) as g(user_id, ago_us)
    -- The limit makes Postgres look up each by its key: without it, a few may read all users.
    cross join lateral (select u.id from users u where u.id = g.user_id and u.deleted is null limit 1) u
), active as (
    insert into activity (day, user_id)
    select distinct (g.at at time zone 'UTC')::date, g.user_id from given g order by 1, 2
    on conflict do nothing
)
insert into last_seen (user_id, at)
select g.user_id, max(g.at) from given g group by g.user_id order by g.user_id
on conflict (user_id) do update set at = greatest(last_seen.at, excluded.at);

-- name: of
-- When users were online last. Users who never were have no row.
select l.user_id, (extract(epoch from l.at) * 1000000)::bigint from last_seen l where l.user_id = any(%(users)s);
