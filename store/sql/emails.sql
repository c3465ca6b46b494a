-- name: of
-- A user's address, and what is wanted there.
select e.address, e.verified is not null, e.wants_digest, e.wants_device_notice, e.digest_hour, e.zone
from emails e where e.user_id = %(user)s::uuid;

-- name: put
-- See put_email() in functions/.
select outcome, wait_s from put_email(
    %(user)s::uuid, %(address)s, %(wants_digest)s, %(wants_device_notice)s, %(digest_hour)s::int, %(zone)s,
    %(lifetime_s)s::float8, %(window_s)s::float8, %(most)s::int, %(most_others)s::int);

-- name: remove
-- No address any more: its tokens find nothing. How many mails were asked for stays known.
update emails e
set address = null, verified = null, next_digest = null, last_digest = null, seed = null, verification_hash = null,
    verification_expires = null, unsubscribe_hash = null
where e.user_id = %(user)s::uuid;

-- name: verify
-- See verify_email() in functions/.
select outcome from verify_email(%(token_hash)s);

-- name: unsubscribe
-- No more digests. No row: nobody has this token.
update emails e set wants_digest = false, next_digest = null
where e.unsubscribe_hash = %(token_hash)s returning 1;

-- name: verification
-- What the mail that asks whether an address is its user's needs; no row: nobody asks any more.
select e.address, mail_token(e.seed, 'verify') from emails e
where e.user_id = %(user)s::uuid and e.verified is null and e.verification_expires > clock_timestamp();

-- name: device_notice
-- What the notice of a new device needs; no row: it is not wanted. A device that was revoked meanwhile is told of all the
-- same: whoever logged in with it may have done that.
select e.address, u.username, d.name, to_char(d.created at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from emails e
join users u on u.id = e.user_id
join devices d on d.user_id = e.user_id and d.id = %(device)s::uuid
where e.user_id = %(user)s::uuid and e.verified is not null and e.wants_device_notice;

-- name: ask_digests
-- Digests that are due become jobs, if there is something to tell and it is not hours later; each is due again a day
-- after. Two numbers: how many were looked at, and how many became jobs.
with due as (
    select e.user_id, e.next_digest, e.digest_hour, e.zone from emails e
    where e.next_digest <= clock_timestamp() order by e.next_digest limit %(limit)s for update skip locked
), moved as (
    update emails e set next_digest = digest_after(due.digest_hour, due.zone, clock_timestamp())
    from due where e.user_id = due.user_id
), asked as (
    select enqueue('digest', jsonb_build_object('user', due.user_id), p_key => due.user_id::text)
    from due cross join lateral unread_of(due.user_id) u
    where due.next_digest > clock_timestamp() - make_interval(secs => %(late_s)s) and u.unread > 0
)
select (select count(*) from due), (select count(*) from asked);

-- name: digest
-- What a digest needs; no row: it is not wanted, or there was one just now, or there is nothing to tell.
select e.address, u.username, mail_token(e.seed, 'unsubscribe'), n.unread, n.conversations
from emails e join users u on u.id = e.user_id cross join lateral unread_of(e.user_id) n
where e.user_id = %(user)s::uuid and e.verified is not null and e.wants_digest and n.unread > 0
  and coalesce(e.last_digest, '-infinity') < clock_timestamp() - make_interval(secs => %(apart_s)s);

-- name: digest_sent
-- There was a digest just now.
update emails e set last_digest = clock_timestamp() where e.user_id = %(user)s::uuid and e.address = %(address)s;
