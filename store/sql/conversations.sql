-- name: add_direct
-- See add_direct() in functions/.
select outcome, conversation, wait_s
from add_direct(%(conversation)s::uuid, %(user)s::uuid, %(other)s::uuid, %(starts)s::int);

-- name: add_group
-- See add_group() in functions/.
select outcome, refused, wait_s
from add_group(%(conversation)s::uuid, %(name)s::text, %(users)s::uuid[], %(admin)s::uuid, %(starts)s::int);

-- name: page
-- The next conversations of a user, or requests, the latest message first. `entries` looks only at these closely.
select me.conversation_id, me.user_id, me.joined_seq, me.read_seq, me.private_read_seq, me.private_delivered_seq,
       me.asked_by, me.own_lifetime_s, me.own_marked, me.muted_until, me.own_revision, me as participant,
       false as has_former, null::pg_snapshot as base, null::pg_snapshot as marks, null::bigint as size
from participants me
-- The limit makes Postgres look up each by its key. Without it, a plan made for few conversations reads them all.
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = (select reader.user_id from reader) and (me.asked_by is not null) = %(is_request)s
  and ((extract(epoch from c.active_at) * 1000000)::bigint, c.id) < (%(before)s, %(before_id)s)
order by (extract(epoch from c.active_at) * 1000000)::bigint desc, c.id desc limit %(limit)s

-- name: chosen
-- The conversations, among some, that a user is a participant of. base: only participants who have changed since this
-- snapshot, or whose marks have moved since the snapshot in marks; null: all.
select me.conversation_id, me.user_id, me.joined_seq, me.read_seq, me.private_read_seq, me.private_delivered_seq,
       me.asked_by, me.own_lifetime_s, me.own_marked, me.muted_until, me.own_revision, me as participant,
       chosen.base is null as has_former, chosen.base::pg_snapshot, %(marks)s::pg_snapshot as marks,
       null::bigint as size
from unnest(%(conversations)s, %(bases)s) chosen(id, base)
join participants me on me.conversation_id = chosen.id
where me.user_id = (select reader.user_id from reader)

-- name: seen
-- One conversation as each of some users sees it; size is counted once for all of them.
select me.conversation_id, me.user_id, me.joined_seq, me.read_seq, me.private_read_seq, me.private_delivered_seq,
       me.asked_by, me.own_lifetime_s, me.own_marked, me.muted_until, me.own_revision, me as participant,
       true as has_former, null::pg_snapshot as base, null::pg_snapshot as marks,
       (select count(*) from shown_participants n where n.conversation_id = %(conversation)s) as size
from participants me
where me.conversation_id = %(conversation)s and me.user_id = any(%(users)s)

-- name: entries
-- A row for each conversation in `page`, as its user sees it: participants, former stays, last message, unread count.
-- If more than %(most)s users take part: only the user and the number of participants. An actor who is the user stands
-- for no actor.
select me.user_id, c.id, (extract(epoch from c.created) * 1000000)::bigint, c.kind, c.name,
       floor_of(c, me.participant) + 1, c.last_seq,
       unread_count(c, me.participant),
       (extract(epoch from c.active_at) * 1000000)::bigint, c.participants_version, c.joiners_see_all,
       case when me.own_lifetime_s is null then c.lifetime_s else nullif(me.own_lifetime_s, 0) end::bigint,
       (extract(epoch from me.muted_until) * 1000000)::bigint, nullif(me.own_revision, 0)::bigint, taking.size,
       me.asked_by,
       case when (me.participant).uncounted > 0 then (
           select array_agg(latest.seq order by latest.seq) from (
               select u.seq from uncounted_seqs(
                   c.id, me.user_id, greatest(count_base(me.participant), c.floor_seq), c.last_seq) u(seq)
               order by u.seq desc limit %(uncounted)s) latest) end,
       case when me.own_lifetime_s is null then c.settings_by else me.user_id end,
       former.users, former.delivered, former.read, former.since, former.actors, former.left_seqs,
       who.users, who.revisions, who.usernames, who.joined, who.since, who.delivered, who.read, who.admins,
       who.names, who.actors,
       m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.temp_id, m.is_gone, m.deleted_by
from page me
join conversations c on c.id = me.conversation_id
cross join lateral (
    select coalesce(me.size, (
        select count(*) from shown_participants n where n.conversation_id = me.conversation_id)) as size
) taking
-- A user whom this user blocks is shown without a display name.
cross join lateral (
    select array(select b.contact_id from contacts b where b.user_id = me.user_id and b.is_blocked) as users
) blocked
cross join lateral (
    select array_agg(p.user_id) as users, array_agg(p.profile_revision::bigint) as revisions,
           array_agg(p.username) as usernames,
           -- A direct conversation has both users from the beginning; an own floor of one is not shown to the other.
           array_agg(case when c.kind = 'direct' then 0 else p.joined_seq end) as joined,
           array_agg(p.since_seq) as since,
           array_agg(case when p.user_id = me.user_id then greatest(p.delivered_seq, me.private_delivered_seq)
                          else p.delivered_seq end) as delivered,
           array_agg(case when p.user_id = me.user_id then greatest(me.read_seq, me.private_read_seq)
                          else p.read_seq end)
                as read,
           array_agg((p.role = 'admin')::int::bigint) as admins, array_agg(coalesce(p.changed_by, p.user_id)) as actors,
           array_agg(case when p.user_id <> all(blocked.users) then coalesce(p.display_name, '') else '' end) as names
    from (
        select p.*, u.username, u.display_name, u.profile_revision
        from (
            select p.* from shown_participants p
            where p.conversation_id = me.conversation_id and taking.size <= %(most)s
            union all
            select p.* from shown_participants p
            where p.conversation_id = me.conversation_id and p.user_id = me.user_id and taking.size > %(most)s
        ) p
        cross join lateral (
            select u.username, u.display_name, u.profile_revision from users u where u.id = p.user_id limit 1
        ) u
        where me.base is null or unseen(p.changed, me.base) or unseen(p.marked, me.marks)
           or p.user_id = me.user_id and unseen(me.own_marked, me.marks)
        order by p.user_id
    ) p
) who
cross join lateral (
    -- With the whole list of participants: stays of others that have ended, if they hold messages that the user may
    -- read, or ended while the user took part.
    select array_agg(f.user_id) as users,
           array_agg(case when f.are_shown then f.delivered_seq else -1 end) as delivered,
           array_agg(case when f.are_shown then f.read_seq else -1 end) as read, array_agg(f.since_seq) as since,
           array_agg(coalesce(f.removed_by, f.user_id)) as actors, array_agg(f.left_seq) as left_seqs
    from (
        select s.*, taking.size <= %(most)s as are_shown from former_stays(c.id) s
        where me.has_former and s.user_id <> me.user_id
          and (s.left_seq > floor_of(c, me.participant) or s.departed > (me.participant).joined)
        order by s.departed desc, s.user_id limit %(former)s
    ) f
) former
left join lateral readable_messages(c, me.participant) m on m.seq = c.last_seq
order by (extract(epoch from c.active_at) * 1000000)::bigint desc, c.id desc

-- name: version
-- A digest of all that the list shows and of the conversations in it: each commit that changes the list changes it. Two
-- sums of 64 bits and a count: two states with the same digest are as unlikely as a forged signature. Marks that only
-- go up are told apart by their sum. If more than %(most)s users take part, the list shows only how many, and a change
-- of that moves c.changed.
select bit_xor(who.one # hash_record_extended(
           row(c.id, c.changed, me.changed, me.own_changed, me.own_marked, me.own_shown), 1)),
       bit_xor(who.other # hash_record_extended(
           row(c.id, c.changed, me.changed, me.own_changed, me.own_marked, me.own_shown), 2)),
       sum(who.size)::bigint,
       sum(me.delivered_seq + me.read_seq + me.private_read_seq + me.private_delivered_seq + who.marks)::bigint
from participants me
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
cross join lateral (
    select case when count(*) <= %(most)s
                then bit_xor(hash_record_extended(row(p.conversation_id, p.user_id, p.changed), 1)) else 0 end as one,
           case when count(*) <= %(most)s
                then bit_xor(hash_record_extended(row(p.conversation_id, p.user_id, p.changed), 2)) else 0 end as other,
           case when count(*) <= %(most)s then sum(p.delivered_seq + p.read_seq) else 0 end as marks, count(*) as size
    from (
        select * from shown_participants p where p.conversation_id = me.conversation_id limit %(most)s + 1
    ) p
) who
where me.user_id = (select reader.user_id from reader)

-- name: participants
-- A page of the participants of a conversation, by their ids. No row: the user takes no part, or the page is empty.
-- Marks are -1 if more than %(most)s users take part; the user's own are always there.
select p.user_id, u.profile_revision::bigint, u.username,
       case when c.kind = 'direct' then 0 else p.joined_seq end, p.since_seq,
       case when p.user_id = me.user_id then greatest(p.delivered_seq, me.private_delivered_seq)
            when taking.size <= %(most)s then p.delivered_seq else -1 end,
       case when p.user_id = me.user_id then greatest(p.read_seq, me.private_read_seq)
            when taking.size <= %(most)s then p.read_seq else -1 end,
       (p.role = 'admin')::int::bigint,
       case when not is_blocked(me.user_id, p.user_id) then coalesce(u.display_name, '') else '' end,
       coalesce(p.changed_by, p.user_id)
from participants me
join conversations c on c.id = me.conversation_id
cross join lateral (
    select count(*) as size
    from (select from shown_participants n where n.conversation_id = me.conversation_id limit %(most)s + 1) n
) taking
cross join lateral (
    select * from shown_participants p where p.conversation_id = me.conversation_id and p.user_id > %(after)s
    order by p.user_id limit %(limit)s
) p
cross join lateral (
    select u.username, u.display_name, u.profile_revision from users u where u.id = p.user_id limit 1
) u
where me.conversation_id = %(conversation)s and me.user_id = %(user)s
order by p.user_id

-- name: participant
-- A participant as the others see them: without marks (-1) and display name if more than %(most)s users take part.
select p.user_id, u.profile_revision::bigint, u.username,
       case when c.kind = 'direct' then 0 else p.joined_seq end, p.since_seq,
       case when taking.size <= %(most)s then p.delivered_seq else -1 end,
       case when taking.size <= %(most)s then p.read_seq else -1 end,
       (p.role = 'admin')::int::bigint, case when taking.size <= %(most)s then coalesce(u.display_name, '') else '' end,
       coalesce(p.changed_by, p.user_id)
from shown_participants p
join conversations c on c.id = p.conversation_id
join users u on u.id = p.user_id
cross join lateral (
    select count(*) as size
    from (select from shown_participants n where n.conversation_id = p.conversation_id limit %(most)s + 1) n
) taking
where p.conversation_id = %(conversation)s and p.user_id = %(user)s

-- name: participant_count
-- The number of participants of a conversation, as it is shown.
select count(*) from shown_participants p where p.conversation_id = %(conversation)s::uuid;

-- name: participants_versions
-- The versions of the lists of participants of some conversations.
select c.id, c.participants_version from conversations c where c.id = any(%(conversations)s::uuid[]);
