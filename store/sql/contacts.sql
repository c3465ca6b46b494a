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
-- A page of a user's contacts, by their ids, and how often they have changed. One row with nulls if there are none.
select u.contacts_revision::bigint, page.* from users u
left join lateral (
    select c.contact_id, o.username, o.display_name, c.is_blocked, (extract(epoch from c.created) * 1000000)::bigint
    from contacts c
    -- The limit has each looked up: where few users are stored, they would be read from end to end.
    cross join lateral (select o.username, o.display_name from users o where o.id = c.contact_id limit 1) o
    where c.user_id = %(user)s::uuid and c.contact_id > %(after)s::uuid
    order by c.contact_id limit %(limit)s
) page on true
where u.id = %(user)s::uuid
order by page.contact_id;

-- name: one
-- Somebody as a contact of a user, or as none, and how often the user's contacts have changed.
select o.username, o.display_name, me.contacts_revision::bigint, c.contact_id is not null, coalesce(c.is_blocked, false)
from users me
join users o on o.id = %(other)s::uuid
left join contacts c on c.user_id = me.id and c.contact_id = o.id
where me.id = %(user)s::uuid;
