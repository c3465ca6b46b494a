-- name: of
-- The address of a user, and the mails that the user wants.
select e.address, e.verified is not null, e.wants_digest, e.wants_device_notice, e.digest_hour, e.zone
from emails e where e.user_id = %(user)s::uuid;

-- name: put
-- See put_email() in functions/.
select outcome, wait_s, sends_mail from put_email(
    %(user)s::uuid, %(address)s, %(wants_digest)s, %(wants_device_notice)s, %(digest_hour)s::int, %(zone)s,
    %(lifetime_s)s::float8, %(window_s)s::float8, %(most)s::int, %(mailbox)s,
    %(mailbox_window_s)s::float8, %(most_to_mailbox)s::int, %(margin_s)s::float8, %(source)s::jsonb);

-- name: remove
-- Removes the address of a user: its tokens find nothing. The row stays, with the number of mails that were asked for.
with void as (
    update password_resets r set token_hash = null where r.user_id = %(user)s::uuid and r.token_hash is not null
), removed as (
    update emails e
    set address = null, verified = null, next_digest = null, last_digest = null, seed = null, mailbox_hash = null,
        verification_hash = null,
        verification_expires = null, unsubscribe_hash = null
    where e.user_id = %(user)s::uuid and e.address is not null returning e.user_id
)
select note_security_event('email_removed', r.user_id, %(source)s::jsonb) from removed r;

-- name: verify
-- See verify_email() in functions/.
select outcome from verify_email(%(token_hash)s, %(user)s::uuid, %(source)s::jsonb);

-- name: unsubscribe
-- Ends the digests of a user. No row: the token is unknown.
update emails e set wants_digest = false, next_digest = null
where e.unsubscribe_hash = %(token_hash)s returning 1;

-- name: take_verification
-- See take_verification() in functions/.
select address, token from take_verification(
    %(user)s::uuid, %(window_s)s::float8, %(most)s::int, %(margin_s)s::float8)
where address is not null;

-- name: device_notice
-- The fields of a mail about a new device. No row: it is not wanted. It is sent also if the device was revoked
-- meanwhile: an intruder may have revoked it.
select e.address, u.username, d.name, to_char(d.created at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from emails e
join users u on u.id = e.user_id
join devices d on d.user_id = e.user_id and d.id = %(device)s::uuid
where e.user_id = %(user)s::uuid and e.verified is not null and e.wants_device_notice;

-- name: reuse_notice
-- The fields of a mail about a token that was shown after its end. No row: it is not wanted.
select e.address, u.username, d.name, to_char(d.revoked at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from emails e
join users u on u.id = e.user_id
join devices d on d.user_id = e.user_id and d.id = %(device)s::uuid and d.is_reused
where e.user_id = %(user)s::uuid and e.verified is not null and e.wants_device_notice;

-- name: ask_digests
-- Enqueues the digests that are due, if the user has unread messages and it is not hours late; each is due again a day
-- later. One row: how many users were looked at, and how many jobs were enqueued.
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
-- The fields of a digest. No row: it is not wanted, or there was one recently, or the user has no unread messages.
select e.address, u.username, mail_token(e.seed, 'unsubscribe'), n.unread, n.conversations
from emails e join users u on u.id = e.user_id and not u.is_closed and u.suspended is null
cross join lateral unread_of(e.user_id) n
where e.user_id = %(user)s::uuid and e.verified is not null and e.wants_digest and n.unread > 0
  and coalesce(e.last_digest, '-infinity') < clock_timestamp() - make_interval(secs => %(apart_s)s);

-- name: digest_sent
-- Notes that a digest was sent.
update emails e set last_digest = clock_timestamp() where e.user_id = %(user)s::uuid and e.address = %(address)s;

-- name: forget_mailboxes
-- Deletes the counts of mailboxes that had their mails before the window. One row: how many.
with old as (
    select m.mailbox_hash from mailboxes m
    where m.sent_since < now() - make_interval(secs => %(window_s)s) order by m.sent_since
    limit %(limit)s for update skip locked
), gone as (
    delete from mailboxes m where m.mailbox_hash = any(array(select old.mailbox_hash from old)) returning 1
)
select count(*) from gone;

-- name: forget_sent_verifications
-- Deletes the tokens of mails that ended before the window. One row: how many.
with old as (
    select s.token_hash from sent_verifications s
    where s.expires < now() - make_interval(secs => %(window_s)s) order by s.expires
    limit %(limit)s for update skip locked
), gone as (
    delete from sent_verifications s where s.token_hash = any(array(select old.token_hash from old)) returning 1
)
select count(*) from gone;
