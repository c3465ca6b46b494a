-- name: touch
-- These users were online just now. In key order, so that two nodes do not deadlock.
insert into last_seen (user_id, at)
select u.id, clock_timestamp() from users u where u.id = any(%(users)s) order by u.id
on conflict (user_id) do update set at = greatest(last_seen.at, excluded.at);

-- name: of
-- When these users were online last; those who never were are left out.
select l.user_id, (extract(epoch from l.at) * 1000000)::bigint from last_seen l where l.user_id = any(%(users)s);
