-- name: of
-- The settings that some users have made for themselves. A row for each user who exists.
select u.id, u.settings_revision::bigint, u.gives_receipts, u.shows_presence, u.contacts_revision::bigint,
       u.messages_from, u.groups_from, q.from_minute::bigint, q.until_minute::bigint, q.zone
from unnest(%(users)s::uuid[]) given(id)
cross join lateral (select * from users u where u.id = given.id limit 1) u
left join lateral (select * from quiet_hours q where q.user_id = u.id limit 1) q on true;

-- name: changed_since
-- Changes of what belongs to some users alone, since a snapshot, which a node may have missed: users who have changed a
-- setting or a contact (conversation is null), and conversations where something of theirs has changed.
select u.id, null::uuid as conversation_id
from unnest(%(users)s::uuid[]) given(id)
cross join lateral (select u.id, u.own_changed from users u where u.id = given.id limit 1) u
where unseen(u.own_changed, %(base)s::pg_snapshot)
union all
select p.user_id, p.conversation_id from participants p
where p.user_id = any(%(users)s::uuid[])
  and (unseen(p.own_changed, %(base)s::pg_snapshot) or unseen(p.own_marked, %(base)s::pg_snapshot)
       or unseen(p.own_shown, %(base)s::pg_snapshot))
  and not unseen(p.added, %(base)s::pg_snapshot);
