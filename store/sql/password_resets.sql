-- name: ask
-- See ask_password_reset() in functions/.
select ask_password_reset(%(username)s::text, %(address)s::text, %(known)s::uuid, %(lifetime_s)s::float8,
                          %(margin_s)s::float8, %(window_s)s::float8, %(most)s::int, %(accounts)s::int);

-- name: mail
-- The fields of a mail with a link that sets another password. No row: it is void, or belongs to no user.
select e.address, u.username, mail_token(r.id, 'reset'),
       to_char(r.expires at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from password_resets r
join users u on u.id = r.user_id
join emails e on e.user_id = r.user_id and e.verified is not null
where r.id = %(reset)s::uuid and r.token_hash is not null and r.expires > clock_timestamp();

-- name: state
-- Whether the token of a mail is good, and the username. No row: there is no such token, or it is void.
select r.expires > clock_timestamp(), u.username
from password_resets r join users u on u.id = r.user_id where r.token_hash = %(token_hash)s;

-- name: reset
-- See reset_password() in functions/.
select outcome from reset_password(%(token_hash)s, %(password_hash)s, %(source)s::jsonb);

-- name: changed_notice
-- The fields of a mail that the password was changed. No row: the user has no verified address.
select e.address, u.username, to_char(clock_timestamp() at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from emails e join users u on u.id = e.user_id and u.deleted is null
where e.user_id = %(user)s::uuid and e.verified is not null;

-- name: forget
-- Deletes what was asked for longer ago than any limit counts it, a batch at a time. One row: how many.
with old as (
    select r.id from password_resets r
    where r.asked < now() - make_interval(secs => %(window_s)s::float8)
    order by r.asked limit %(limit)s for update skip locked
), gone as (
    delete from password_resets r where r.id = any(array(select o.id from old o)) returning 1
)
select count(*) from gone;

-- name: void
-- See void_password() in functions/.
select void_password(%(user)s::uuid, %(lifetime_s)s::float8, %(source)s::jsonb);
