-- name: of_user
-- The quiet hours of a user. No row: the user has none.
select from_minute::bigint, until_minute::bigint, zone from quiet_hours where user_id = %(user)s::uuid;

-- name: set
-- Sets the quiet hours of a user. Notices that wait for the end of the former ones are due now.
with kept as (
    insert into quiet_hours (user_id, from_minute, until_minute, zone)
    values (%(user)s::uuid, %(from_minute)s, %(until_minute)s, %(zone)s)
    on conflict (user_id) do update
    set from_minute = excluded.from_minute, until_minute = excluded.until_minute, zone = excluded.zone
)
select hurry_notices(%(user)s::uuid);

-- name: remove
-- Removes the quiet hours of a user. Notices that wait for their end are due now.
with gone as (
    delete from quiet_hours where user_id = %(user)s::uuid
)
select hurry_notices(%(user)s::uuid);
