-- name: add_direct
-- See add_direct() in functions/.
select outcome, conversation, wait_s
from add_direct(%(conversation)s::uuid, %(user)s::uuid, %(other)s::uuid, %(starts)s::int);

-- name: add_self
-- See add_self() in functions/.
select outcome, conversation from add_self(%(conversation)s::uuid, %(user)s::uuid);

-- name: add_group
-- See add_group() in functions/.
select outcome, refused, wait_s
from add_group(%(conversation)s::uuid, %(name)s::text, %(users)s::uuid[], %(admin)s::uuid, %(starts)s::int,
               %(places)s::int);

-- name: columns
-- `select` and this come before `page`, `chosen` and `seen`, which find conversations and the users who see them.
-- floor: of the user. base_seq: no message up to it counts as unread. shown_seq: the last message that is not quiet.
c.id as conversation_id, me.user_id, c.kind, c.name, c.created, c.last_seq, coalesce(c.shown_seq, c.last_seq) as shown_seq,
c.quiet_count, quiet_at(c, greatest(count_base(me), c.floor_seq)) as base_quiet_count, c.active_at, c.participants_version,
c.joiners_see_all, c.lifetime_s, c.settings_by, c.avatar, c.participant_count as size, c.changed, floor_of(c, me) as floor,
unread_count(c, me) as unread, greatest(count_base(me), c.floor_seq) as base_seq, me.uncounted, me.joined, me.asked_by,
me.own_lifetime_s, me.muted_until, me.own_revision, me.private_delivered_seq, me.private_read_seq,
me.changed as participant_changed, me.marked, c.devices_version, c.control_seq, me.own_changed, me.own_marked, me.own_shown

-- name: page
-- The next conversations of a user, or requests, the latest message first.
null::uuid as viewer, null::pg_snapshot as base, null::pg_snapshot as marks
from participants me
-- The limit makes Postgres look up each by its key. Without it, a plan made for few conversations reads them all.
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = (select reader.user_id from reader) and (me.asked_by is not null) = %(is_request)s
  and (%(before)s is null
       or ((extract(epoch from c.active_at) * 1000000)::bigint, c.id) < (%(before)s, %(before_id)s))
order by c.active_at desc, c.id desc limit %(limit)s

-- name: chosen
-- The conversations, among some, that a user is a participant of. base: only participants who have changed since this
-- snapshot, or whose marks have moved since the snapshot in marks; null: all.
null::uuid as viewer, chosen.base::pg_snapshot, %(marks)s::pg_snapshot as marks
from unnest(%(conversations)s, %(bases)s) chosen(id, base)
join participants me on me.conversation_id = chosen.id
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = (select reader.user_id from reader)

-- name: seen
-- One conversation as each of some users sees it.
me.user_id as viewer, null::pg_snapshot as base, null::pg_snapshot as marks
from participants me
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.conversation_id = %(conversation)s and me.user_id = any(%(users)s)

-- name: people
-- The participants of the conversations in `page`, where at most %(most)s users take part.
select p.* from shown_participants p
where p.conversation_id = any(array(select page.conversation_id from page where page.size <= %(most)s))

-- name: shown
-- The participants that the conversations in `page` show to their users: those of `people`, or the user alone if more
-- than %(most)s users take part.
select me.viewer, p.conversation_id, p.user_id, coalesce(p.changed_by, p.user_id) as actor_id,
       -- A direct conversation has both users from the beginning; an own floor of one is not shown to the other.
       case when me.kind = 'direct' then 0 else p.joined_seq end as joined_seq, p.since_seq,
       case when p.user_id = me.user_id then greatest(p.delivered_seq, me.private_delivered_seq)
            else p.delivered_seq end as delivered_seq,
       case when p.user_id = me.user_id then greatest(p.read_seq, me.private_read_seq) else p.read_seq end as read_seq,
       p.role = 'admin' as is_admin, (me.user_id, p.user_id) in (
           select b.user_id, b.contact_id from contacts b
           where b.is_blocked and b.user_id = any(array(select page.user_id from page))
       ) as is_blocked, p.changed, p.marked
from people p
join page me on me.conversation_id = p.conversation_id
where me.base is null or unseen(p.changed, me.base) or unseen(p.marked, me.marks)
   or p.user_id = me.user_id and unseen(me.own_marked, me.marks)
union all
select me.viewer, p.conversation_id, p.user_id, coalesce(p.changed_by, p.user_id), p.joined_seq, p.since_seq,
       greatest(p.delivered_seq, p.private_delivered_seq), greatest(p.read_seq, p.private_read_seq),
       p.role = 'admin', false, null, null
from page me
cross join lateral (
    select * from participants p where p.conversation_id = me.conversation_id and p.user_id = me.user_id limit 1
) p
where me.size > %(most)s and (
    me.base is null or unseen(me.participant_changed, me.base) or unseen(me.marked, me.marks)
    or unseen(me.own_marked, me.marks))

-- name: heads
-- This, `participants_shown` and `profiles` are what the conversations in `page` show to their users, in rows of several
-- kinds that share the columns. viewer: the user who sees it so; null: the reader.
-- 0: a conversation, with its last message and the unread count. uuids: the user who asks, and the user who changed the
--     settings; an actor who is the user stands for no actor. Behind the uncounted seqs: if some messages are quiet, the
--     base and how many up to it are, then the same of the last message. The last columns are the avatar, the
--     devices_version and the control_seq.
0 as kind, me.viewer, me.conversation_id, me.asked_by,
case when me.own_lifetime_s is null then me.settings_by else me.user_id end, me.kind, me.name,
(extract(epoch from me.created) * 1000000)::bigint, me.floor + 1, me.last_seq, me.unread,
(extract(epoch from me.active_at) * 1000000)::bigint, me.participants_version,
case when me.own_lifetime_s is null then me.lifetime_s else nullif(me.own_lifetime_s, 0) end::bigint,
(extract(epoch from me.muted_until) * 1000000)::bigint, nullif(me.own_revision, 0)::bigint, me.size::bigint,
me.joiners_see_all,
case when me.uncounted > 0 then (
    select array_agg(latest.seq order by latest.seq) from (
        select u.seq from uncounted_seqs(me.conversation_id, me.user_id, me.base_seq, me.last_seq) u(seq)
        order by u.seq desc limit %(uncounted)s) latest) end,
case when me.quiet_count > 0 then array[me.base_seq, me.base_quiet_count, me.last_seq, me.quiet_count] end,
m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
m.attachments, m.thumbnail, m.temp_id, m.device_id, m.is_quiet,
nullif(m.quiet_count, 0), m.is_gone, m.deleted_by, m.has_envelopes, m.follows,
(select v.told from avatars v where v.id = me.avatar), nullif(me.devices_version, 0),
nullif(me.control_seq, 0)

-- name: of_heads
-- Behind the columns of `heads`.
from page me left join lateral readable_messages(me.conversation_id, me.user_id, me.floor) m on m.seq = me.shown_seq

-- name: participants_shown
-- 1: a participant. uuids: the user, and the actor. The flag of a message that is gone says here that the viewer blocks
--     the user, whose display name and avatar are then not shown.
1, s.viewer, s.conversation_id, s.user_id, s.actor_id, null, null, s.joined_seq, s.since_seq, s.delivered_seq, s.read_seq,
null, null, null, null, null, null, s.is_admin, null,
null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, s.is_blocked,
null, null, null, null, null, null

-- name: profiles
-- 2: the profile of a user who is shown as a participant, once for all conversations.
2, null, null, u.id, null, u.username, u.display_name, u.profile_revision,
null, null, null, null, null, null, null, null, null, null, null,
null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
(select v.told from avatars v where v.id = u.avatar), null, null

-- name: former
-- 3: a former stay, which comes with a whole list of participants: of others, if it holds messages that the user may
--     read, or ended while the user took part. uuids: the user, and the actor. Marks of -1 are not shown.
select 3, me.viewer, me.conversation_id, f.user_id, coalesce(f.removed_by, f.user_id), null, null,
       f.since_seq, f.left_seq, case when me.size <= %(most)s then f.delivered_seq else -1 end,
       case when me.size <= %(most)s then f.read_seq else -1 end,
       (extract(epoch from f.departed) * 1000000)::bigint, null, null, null, null, null, null, null,
       null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
       null, null, null, null, null, null
from page me
cross join lateral (
    select * from former_stays(me.conversation_id) s
    where s.user_id <> me.user_id and (s.left_seq > me.floor or s.departed > me.joined)
    order by s.departed desc, s.user_id limit %(former)s
) f
where me.base is null

-- name: participants
-- A page of the participants of a conversation, by their ids. No row: the user takes no part, or the page is empty.
-- Marks are -1 if more than %(most)s users take part; the user's own are always there.
select p.user_id, coalesce(p.changed_by, p.user_id), u.username,
       case when not is_blocked(me.user_id, p.user_id) then u.display_name end, u.profile_revision,
       case when c.kind = 'direct' then 0 else p.joined_seq end, p.since_seq,
       case when p.user_id = me.user_id then greatest(p.delivered_seq, me.private_delivered_seq)
            when c.participant_count <= %(most)s then p.delivered_seq else -1 end,
       case when p.user_id = me.user_id then greatest(p.read_seq, me.private_read_seq)
            when c.participant_count <= %(most)s then p.read_seq else -1 end,
       p.role = 'admin',
       (select v.told from avatars v where v.id = u.avatar and not is_blocked(me.user_id, p.user_id))
from participants me
join conversations c on c.id = me.conversation_id
cross join lateral (
    select * from shown_participants p where p.conversation_id = me.conversation_id and p.user_id > %(after)s
    order by p.user_id limit %(limit)s
) p
cross join lateral (
    select u.username, u.display_name, u.avatar, u.profile_revision from users u where u.id = p.user_id limit 1
) u
where me.conversation_id = %(conversation)s and me.user_id = %(user)s
order by p.user_id

-- name: participant
-- A participant as the others see them: without marks (-1), display name and avatar if more than %(most)s users take
-- part.
select p.user_id, coalesce(p.changed_by, p.user_id), u.username,
       case when c.participant_count <= %(most)s then u.display_name end, u.profile_revision,
       case when c.kind = 'direct' then 0 else p.joined_seq end, p.since_seq,
       case when c.participant_count <= %(most)s then p.delivered_seq else -1 end,
       case when c.participant_count <= %(most)s then p.read_seq else -1 end, p.role = 'admin',
       (select v.told from avatars v where v.id = u.avatar and c.participant_count <= %(most)s)
from shown_participants p
join conversations c on c.id = p.conversation_id
join users u on u.id = p.user_id
where p.conversation_id = %(conversation)s and p.user_id = %(user)s

-- name: participant_count
-- The number of participants of a conversation, as it is shown.
select c.participant_count from conversations c where c.id = %(conversation)s::uuid;

-- name: participants_versions
-- The versions of the lists of participants of some conversations.
select c.id, c.participants_version from conversations c where c.id = any(%(conversations)s::uuid[]);
