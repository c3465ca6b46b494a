-- name: add_direct
-- The direct conversation of two users: made if there is none. One row: its id, and whether it is new.
select conversation, is_new from add_direct(%(conversation)s::uuid, %(user)s::uuid, %(other)s::uuid);

-- name: add_group
-- A group with its first participants, of whom one is its administrator.
with made as (
    insert into conversations (id, kind, name) values (%(conversation)s::uuid, 'group', %(name)s) returning id
)
insert into participants (conversation_id, user_id, role, changed_by)
select made.id, u, case when u = %(admin)s::uuid then 'admin' else 'member' end, nullif(%(admin)s::uuid, u)
from made, unnest(%(users)s::uuid[]) u order by u;

-- name: page
-- Which conversations of a user come next, the latest message first: no more of them are looked at closely.
select me.conversation_id, me.user_id, me.joined_seq, me.read_seq, me.private_read_seq, me.muted_until, me.own_revision,
       me as participant, false as has_former, null::pg_snapshot as base, null::pg_snapshot as marks
from participants me
-- The limit has each looked up: where few conversations are stored, they would be read from end to end.
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = %(user)s
  and ((extract(epoch from c.active_at) * 1000000)::bigint, c.id) < (%(before)s, %(before_id)s)
order by (extract(epoch from c.active_at) * 1000000)::bigint desc, c.id desc limit %(limit)s

-- name: chosen
-- Those of some conversations in which a user takes part. base: of those participants alone who have changed since a snapshot,
-- or whose marks have moved since another one; null: of all.
select me.conversation_id, me.user_id, me.joined_seq, me.read_seq, me.private_read_seq, me.muted_until, me.own_revision,
       me as participant, chosen.base is null as has_former, chosen.base::pg_snapshot, %(marks)s::pg_snapshot as marks
from unnest(%(conversations)s, %(bases)s) chosen(id, base)
join participants me on me.conversation_id = chosen.id
where me.user_id = %(user)s

-- name: entries
-- What a user sees of each conversation in `page`: participants, former stays, last message, unread count. Where many take
-- part, marks, display names and revisions are left out (-1, '', 0), but for the user's own. An actor who is the user: there is
-- none.
select c.id, (extract(epoch from c.created) * 1000000)::bigint, c.kind, c.name,
       greatest(me.joined_seq, c.floor_seq) + 1, c.last_seq,
       unread_count(c, me.participant),
       (extract(epoch from c.active_at) * 1000000)::bigint, c.members_version, c.joiners_see_all, c.lifetime_s::bigint,
       (extract(epoch from me.muted_until) * 1000000)::bigint, nullif(me.own_revision, 0)::bigint,
       case when (me.participant).uncounted > 0 then (
           select array_agg(latest.seq order by latest.seq) from (
               select u.seq from uncounted_seqs(c.id, me.user_id, greatest(count_base(me.participant), c.floor_seq), c.last_seq)
                   u(seq)
               order by u.seq desc limit %(uncounted)s) latest) end,
       c.settings_by, former.users, former.delivered, former.read, former.since, former.actors, former.left_seqs,
       who.users, who.revisions, who.usernames, who.joined, who.since, who.delivered, who.read, who.admins, who.names, who.actors,
       m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       case when m.sender_id = me.user_id then m.temp_id end,
       m.deleted is not null or m.is_silent and m.sender_id <> me.user_id or exists (
           select from hidden h where h.user_id = me.user_id and h.conversation_id = c.id and h.seq = m.seq
       ), shown_deleter(m.deleted_by, c.id, m.seq, me.user_id)
from page me
join conversations c on c.id = me.conversation_id
cross join lateral (
    select array_agg(p.user_id) as users,
           array_agg(case when p.size <= %(most)s or p.user_id = me.user_id then p.profile_revision::bigint else 0 end)
               as revisions,
           array_agg(p.username) as usernames, array_agg(p.joined_seq) as joined,
           array_agg(p.since_seq) as since,
           array_agg(case when p.user_id = me.user_id then p.delivered_seq
                          when p.size <= %(most)s then p.delivered_seq else -1 end) as delivered,
           array_agg(case when p.user_id = me.user_id then greatest(me.read_seq, me.private_read_seq)
                          when p.size <= %(most)s then p.read_seq else -1 end) as read,
           array_agg((p.role = 'admin')::int::bigint) as admins, array_agg(coalesce(p.changed_by, p.user_id)) as actors,
           array_agg(case when p.size <= %(most)s or p.user_id = me.user_id then coalesce(p.display_name, '') else '' end)
               as names
    from (
        select p.*, u.username, u.display_name, u.profile_revision, count(*) over () as size from participants p
        cross join lateral (
            select u.username, u.display_name, u.profile_revision from users u where u.id = p.user_id limit 1
        ) u
        where p.conversation_id = me.conversation_id order by p.user_id
    ) p
    where me.base is null
       or (p.size <= %(most)s or p.user_id = me.user_id) and (unseen(p.changed, me.base) or unseen(p.marked, me.marks))
) who
cross join lateral (
    -- With the whole list of participants: others' stays that have ended, where they concern what the user may read, or ended
    -- while the user took part.
    select array_agg(f.user_id) as users, array_agg(case when f.are_shown then f.delivered_seq else -1 end) as delivered,
           array_agg(case when f.are_shown then f.read_seq else -1 end) as read, array_agg(f.since_seq) as since,
           array_agg(coalesce(f.removed_by, f.user_id)) as actors, array_agg(f.left_seq) as left_seqs
    from (
        select s.*, (select count(*) from (select from participants p where p.conversation_id = c.id limit %(most)s + 1) few)
                    <= %(most)s as are_shown
        from former_stays(c.id) s
        where me.has_former and s.user_id <> me.user_id
          and (s.left_seq > greatest(me.joined_seq, c.floor_seq) or s.departed > (me.participant).joined)
        order by s.departed desc, s.user_id limit %(former)s
    ) f
) former
left join messages m on m.conversation_id = c.id and m.seq = c.last_seq and m.seq > greatest(me.joined_seq, c.floor_seq)
order by (extract(epoch from c.active_at) * 1000000)::bigint desc, c.id desc

-- name: version
-- A digest of when everything that the list shows was written last, and of who is in it: it changes with each commit that
-- changes the list. Two sums of 64 bits and a number: that two states have the same is as unlikely as a forged signature.
-- Marks that only go up are told apart by their sum.
select bit_xor(who.one # hash_record_extended(row(c.id, c.changed, me.own_changed), 1)),
       bit_xor(who.other # hash_record_extended(row(c.id, c.changed, me.own_changed), 2)), sum(who.size)::bigint,
       sum(me.delivered_seq + me.read_seq + me.private_read_seq
           + case when who.size <= %(most)s then who.marks else 0 end)::bigint
from participants me
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
cross join lateral (
    select bit_xor(hash_record_extended(row(p.conversation_id, p.user_id, p.changed), 1)) as one,
           bit_xor(hash_record_extended(row(p.conversation_id, p.user_id, p.changed), 2)) as other, count(*) as size,
           sum(p.delivered_seq + p.read_seq) as marks
    from participants p where p.conversation_id = me.conversation_id
) who
where me.user_id = %(user)s
