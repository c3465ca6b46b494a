-- name: ask
-- See ask_export() in functions/.
select outcome, id, wait_s from ask_export(%(user)s::uuid, %(window_s)s::float8, %(most_s)s::float8, %(source)s::jsonb);

-- name: of_user
-- The exports of a user that are being made or can be fetched, the newest first.
select x.id, (extract(epoch from x.asked) * 1000000)::bigint, (extract(epoch from x.ready) * 1000000)::bigint,
       (extract(epoch from x.expires) * 1000000)::bigint, x.parts::bigint, x.size_bytes
from exports x where x.user_id = %(user)s::uuid and (x.expires is null or x.expires > now())
order by x.asked desc;

-- name: parts_of
-- How many parts a finished export of a user has. No row: the user has no such export, or it is not ready, or is gone.
select x.parts::bigint from exports x
where x.id = %(export)s::uuid and x.user_id = %(user)s::uuid and x.expires > now();

-- name: open
-- The user of an export that is to be made. No row: it is ready, or the account is closed.
select x.user_id from exports x join users u on u.id = x.user_id and not u.is_closed
where x.id = %(export)s::uuid and x.ready is null;

-- name: note_ready
-- Notes that all parts are in the object store, and has a mail sent. No row: the export is gone.
with made as (
    update exports x
    set ready = clock_timestamp(), expires = clock_timestamp() + make_interval(secs => %(kept_s)s::float8),
        parts = %(parts)s, size_bytes = %(size_bytes)s
    where x.id = %(export)s::uuid and x.ready is null
    returning x.id, x.user_id
), told as (
    select enqueue('export_ready', jsonb_build_object('user', m.user_id, 'export', m.id), p_key => m.id::text)
    from made m join emails e on e.user_id = m.user_id and e.verified is not null
)
select 1 from made left join told on true;

-- name: ready_notice
-- The fields of a mail that an export is ready. No row: it is gone, or the user has no verified address.
select e.address, u.username, to_char(x.expires at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from exports x
join users u on u.id = x.user_id and not u.is_closed
join emails e on e.user_id = x.user_id and e.verified is not null
where x.id = %(export)s::uuid and x.expires > now();

-- name: old
-- Exports whose objects are to be deleted: they have been there long enough, or were never finished.
(select x.id from exports x where x.expires <= now() order by x.expires limit %(limit)s)
union all
(select x.id from exports x
 where x.ready is null and x.asked < now() - make_interval(secs => %(most_s)s::float8)
 order by x.asked limit %(limit)s);

-- name: of_account
-- All exports of a user, for the deletion of the account.
select x.id from exports x where x.user_id = %(user)s::uuid;

-- name: remove
-- Deletes an export, whose objects are gone.
delete from exports where id = %(export)s::uuid;
