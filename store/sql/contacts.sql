-- name: add
-- See add_contact() in functions/.
select outcome, accepted from add_contact(%(user)s::uuid, %(other)s::uuid);

-- name: remove
-- A user removes a contact. A blocked user stays blocked: the client asks separately to end a block.
delete from contacts k where k.user_id = %(user)s::uuid and k.contact_id = %(other)s::uuid and not k.is_blocked;

-- name: set_blocked
-- See set_blocked() in functions/.
select outcome, shown, declined from set_blocked(%(user)s::uuid, %(other)s::uuid, %(is_blocked)s, %(is_online)s);

-- name: blockers
-- The users, among some, who block a user.
select b.user_id from contacts b
where b.contact_id = %(user)s::uuid and b.is_blocked and b.user_id = any(%(users)s::uuid[]);

-- name: list
-- A page of a user's contacts, by their ids, and the revision of all contacts. A blocked contact comes with the
-- username alone. One row with nulls if the page is empty.
select u.contacts_revision::bigint, page.* from users u
left join lateral (
    select c.contact_id, o.username, case when not c.is_blocked then o.display_name end,
           (select v.told from avatars v where v.id = o.avatar and not c.is_blocked), c.is_blocked,
           (extract(epoch from c.created) * 1000000)::bigint
    from contacts c
    -- The limit makes Postgres look up each by its key. Without it, a plan made for few users reads them all.
    cross join lateral (select o.username, o.display_name, o.avatar from users o where o.id = c.contact_id limit 1) o
    where c.user_id = %(user)s::uuid and c.contact_id > %(after)s::uuid
    order by c.contact_id limit %(limit)s
) page on true
where u.id = %(user)s::uuid
order by page.contact_id;

-- name: one
-- Another user as a contact of a user, or as no contact, and the revision of the user's contacts.
select o.username, case when c.is_blocked then null else o.display_name end, me.contacts_revision::bigint,
       c.contact_id is not null, coalesce(c.is_blocked, false),
       (select v.told from avatars v where v.id = o.avatar and c.is_blocked is not true)
from users me
join users o on o.id = %(other)s::uuid
left join contacts c on c.user_id = me.id and c.contact_id = o.id
where me.id = %(user)s::uuid;
