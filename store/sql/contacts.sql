-- name: add
-- Somebody becomes a contact; a row if there is such a user and it was none before.
insert into contacts (user_id, contact_id)
select %(user)s::uuid, u.id from users u where u.id = %(other)s::uuid and u.id <> %(user)s::uuid
on conflict (user_id, contact_id) do nothing
returning contact_id;

-- name: exists
-- Whether there is such a user, other than the one who asks.
select 1 from users u where u.id = %(other)s::uuid and u.id <> %(user)s::uuid;

-- name: remove
-- Somebody is no contact any more. Who is blocked stays so: unblocking is another wish.
delete from contacts where user_id = %(user)s::uuid and contact_id = %(other)s::uuid and not is_blocked;

-- name: set_blocked
-- See set_blocked() in functions/.
select set_blocked(%(user)s::uuid, %(other)s::uuid, %(is_blocked)s);

-- name: list
-- A page of a user's contacts, by their ids.
select c.contact_id, u.username, u.display_name, c.is_blocked, (extract(epoch from c.created) * 1000000)::bigint
from contacts c
-- The limit has each looked up: where few users are stored, they would be read from end to end.
cross join lateral (select u.username, u.display_name from users u where u.id = c.contact_id limit 1) u
where c.user_id = %(user)s::uuid and c.contact_id > %(after)s::uuid
order by c.contact_id limit %(limit)s;
