-- name: of_user
-- No row: none.
select from_minute::bigint, until_minute::bigint, zone from quiet_hours where user_id = %(user)s::uuid;

-- name: set
-- Other quiet hours. What waits for the end of the former ones looks again at once.
with kept as (
    insert into quiet_hours (user_id, from_minute, until_minute, zone)
    values (%(user)s::uuid, %(from_minute)s, %(until_minute)s, %(zone)s)
    on conflict (user_id) do update
    set from_minute = excluded.from_minute, until_minute = excluded.until_minute, zone = excluded.zone
)
select hurry_notices(%(user)s::uuid);

-- name: remove
-- No quiet hours any more. What waits for their end looks again at once.
with gone as (
    delete from quiet_hours where user_id = %(user)s::uuid
)
select hurry_notices(%(user)s::uuid);
