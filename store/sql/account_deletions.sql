-- name: close
-- See close_account() in functions/.
select due from close_account(%(user)s::uuid, %(delay_s)s::float8, %(deletes_messages)s, %(source)s::jsonb);

-- name: due_of
-- When the account of a user is deleted. No row: the user has not asked for that.
select (extract(epoch from d.due) * 1000000)::bigint, d.due <= clock_timestamp()
from account_deletions d where d.user_id = %(user)s::uuid;

-- name: keep
-- The account of a user is not deleted after all. No row: that has begun, or the user has not asked for it.
with kept as (
    delete from account_deletions d where d.user_id = %(user)s::uuid and d.due > clock_timestamp() returning d.user_id
), gone as (
    delete from jobs j using kept k where j.task = 'account_closed' and j.key = k.user_id::text
)
update users u set is_closed = false from kept k where u.id = k.user_id
returning note_security_event('account_kept', u.id, %(source)s::jsonb);

-- name: closing_notice
-- The fields of a mail that an account is to be deleted. No row: it is not, or the user has no verified address.
select e.address, u.username, to_char(d.due at time zone e.zone, 'YYYY-MM-DD HH24:MI'), e.zone
from account_deletions d
join users u on u.id = d.user_id and u.deleted is null
join emails e on e.user_id = d.user_id and e.verified is not null
where d.user_id = %(user)s::uuid;

-- name: due
-- The account to delete next. No row: none is due.
select d.user_id, d.deletes_messages
from account_deletions d
-- The limit makes Postgres look up each by its key: without statistics it would read all users.
cross join lateral (
    select from users u where u.id = d.user_id and u.deleted is null limit 1
) u
where d.due between '-infinity' and now()
order by d.due limit 1;

-- name: erase_own_messages
-- See erase_own_messages() in functions/.
select erase_own_messages(%(user)s::uuid, %(look_at)s::int, %(limit)s::int);

-- name: leave_conversations
-- See leave_conversations() in functions/.
select leave_conversations(%(user)s::uuid, %(limit)s::int);

-- name: delete_contacts
-- Deletes contacts and blocks of a user, and those of others that name the user, a batch at a time. One row: how many.
with step as (
    select note_deletion_step(%(user)s::uuid)
    where exists (select from contacts k where k.user_id = %(user)s::uuid)
       or exists (select from contacts k where k.contact_id = %(user)s::uuid)
), batch as (
    select k.ctid from step cross join lateral (
        (select k.ctid from contacts k where k.user_id = %(user)s::uuid limit %(limit)s)
        union all
        (select k.ctid from contacts k where k.contact_id = %(user)s::uuid limit %(limit)s)
    ) k
), gone as (
    -- By the place of the row, and not by a join, which would read the whole table without statistics. A row that moves
    -- meanwhile is left to the next batch.
    delete from contacts k where k.ctid = any(array(select b.ctid from batch b))
      and (k.user_id = %(user)s::uuid or k.contact_id = %(user)s::uuid)
    returning 1
)
select count(*) from gone;

-- name: delete_rows
-- Deletes rows of a user that no device of another user holds, a batch at a time. One row: how many.
with some_sends as (
    select s.temp_id from sends s where s.sender_id = %(user)s::uuid limit %(limit)s
), gone_sends as (
    delete from sends s using some_sends o
    where s.sender_id = %(user)s::uuid and s.temp_id = o.temp_id returning 1
), some_hidden as (
    select h.conversation_id, h.seq from hidden h where h.user_id = %(user)s::uuid limit %(limit)s
), gone_hidden as (
    delete from hidden h using some_hidden o
    where h.user_id = %(user)s::uuid and h.conversation_id = o.conversation_id and h.seq = o.seq returning 1
)
select (select count(*) from gone_sends) + (select count(*) from gone_hidden);

-- name: anonymise
-- See anonymise_user() in functions/.
select anonymise_user(%(user)s::uuid, %(held_s)s::float8);

-- name: untold
-- The deletions of accounts that the nodes are to be told of: the steps so far, and the seconds since the first that
-- they do not know. "between" makes it a range: without it, Postgres expects most of the table.
select d.user_id, d.steps::bigint, extract(epoch from clock_timestamp() - d.untold_since)::float8
from account_deletions d where d.untold_since between '-infinity' and 'infinity';

-- name: note_told
-- Notes that the nodes were told of so many steps. The row of an account that is deleted goes.
with told as (
    select g.user_id, g.steps from unnest(%(users)s::uuid[], %(steps)s::bigint[]) g(user_id, steps)
), gone as (
    -- By the key of each: a join would read the whole table.
    delete from account_deletions d
    where d.user_id = any(array(select t.user_id from told t))
      and exists (select from told t where t.user_id = d.user_id and t.steps = d.steps)
      and (select u.deleted from users u where u.id = d.user_id) is not null
    returning d.user_id
)
update account_deletions d set untold_since = null
where d.user_id = any(array(select t.user_id from told t))
  and exists (select from told t where t.user_id = d.user_id and t.steps = d.steps)
  and not exists (select from gone g where g.user_id = d.user_id);

-- name: forget_usernames
-- Names of deleted users that other users may take by now, a batch at a time. One row: how many.
with old as (
    select f.username_hash from former_usernames f
    where f.until < now() order by f.until limit %(limit)s for update skip locked
), gone as (
    delete from former_usernames f where f.username_hash = any(array(select o.username_hash from old o)) returning 1
)
select count(*) from gone;
