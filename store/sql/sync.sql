-- name: changed
-- The conversations of a user that have changed since a snapshot, the latest message first: a page of them. Always one
-- row.
--
-- base: the snapshot that the device holds; null: it holds nothing.
-- marks: a snapshot as old or older; changes of marks are told since then.
-- target: the snapshot of the first page; null on the first page.
-- active_at, position: where the page begins; it goes downwards. Conversations that a new message has moved up
--     meanwhile are left out, and come last.
-- are_moved: the page is of those, and goes from position upwards.
--
-- The row: a new snapshot; the last transaction that it surely saw; the id of the history; the time; whether
-- conversations remain for are_moved; whether the user's own settings are to be told (own_settings.sql). Then arrays,
-- one element for each conversation:
-- id, active_at
-- floor_seq: the floor of the user.
-- news:
--   'left': the user takes no part now
--   'came': the user has taken part since then
--   'whole': participants or settings are new
--   'head': messages, the floor, what belongs to the user alone, or the device set; the latter is told since `marks`, as
--       devices in conversations of many were not told live
--   'marks': only marks or profiles of others
--   'counts': only how far the user's own messages have come, where many take part
-- are_told: whether those counts are to be told.
-- is_silenced: messages since `marks` are told, not since `base`: a user whom this user blocks has written, which no
--     device was told live.
with mine as materialized (
    select c.id, (extract(epoch from c.active_at) * 1000000)::bigint as active_at,
           floor_of(c, me) as floor_seq,
           greatest(c.changed, c.devices_changed, me.changed, me.marked, me.own_changed, me.own_marked, me.own_shown, who.changed,
               who.marked)
               as changed,
           unseen(c.changed, %(target)s::pg_snapshot) as is_moved,
           case when %(base)s::pg_snapshot is null then 'whole'
                when unseen(me.added, %(base)s::pg_snapshot) then 'came'
                when unseen(c.participants_changed, %(base)s::pg_snapshot)
                     or unseen(me.own_shown, %(base)s::pg_snapshot) then 'whole'
                when unseen(c.changed, %(base)s::pg_snapshot) or unseen(me.changed, %(base)s::pg_snapshot)
                     or unseen(me.own_changed, %(base)s::pg_snapshot) or unseen(me.silenced, %(marks)s::pg_snapshot)
                     or unseen(c.devices_changed, %(marks)s::pg_snapshot)
                    then 'head'
                when unseen(me.marked, %(marks)s::pg_snapshot) or unseen(me.own_marked, %(marks)s::pg_snapshot)
                     or c.participant_count <= %(most)s and (who.is_changed or who.is_marked) then 'marks'
                when counted.are_told then 'counts' end as news,
           counted.are_told, unseen(me.silenced, %(marks)s::pg_snapshot) as is_silenced
    from participants me
    join conversations c on c.id = me.conversation_id
    cross join lateral (
        -- Where many take part, no marks and profiles of others are shown.
        select max(p.changed) as changed, max(p.marked) as marked,
               bool_or(unseen(p.changed, %(base)s::pg_snapshot)) as is_changed,
               bool_or(unseen(p.marked, %(marks)s::pg_snapshot)) as is_marked
        from shown_participants p where p.conversation_id = c.id and c.participant_count <= %(most)s
    ) who
    cross join lateral (
        -- In this order, since most users have written no message of the last ones.
        select c.participant_count > %(most)s and me.written_seq > greatest(c.last_seq - %(counted)s, floor_of(c, me))
        and (%(base)s::pg_snapshot is null or unseen(c.changed, %(marks)s::pg_snapshot) or exists (
            select from participants p where p.conversation_id = c.id and unseen(p.marked, %(marks)s::pg_snapshot)
        )) as are_told
    ) counted
    where me.user_id = %(user)s::uuid
    union all
    -- A floor above all messages: none is for the user.
    select d.conversation_id, 0, 4611686018427387904, d.changed, unseen(d.changed, %(target)s::pg_snapshot), 'left',
           false, false
    from departures d
    where d.user_id = %(user)s::uuid and unseen(d.changed, %(base)s::pg_snapshot)
), page as (
    (select m.*, row_number() over (order by m.active_at desc, m.id desc) as n from mine m
     where m.news is not null and not %(are_moved)s::boolean
       and (m.active_at, m.id) <= (%(active_at)s::bigint, %(position)s::uuid)
     order by n limit %(limit)s)
    union all
    (select m.*, row_number() over (order by m.id) as n from mine m
     where m.news is not null and %(are_moved)s::boolean and m.is_moved and m.id >= %(position)s::uuid
     order by n limit %(limit)s)
)
select pg_current_snapshot()::text, greatest(own.changed, (select max(changed) from mine))::text, history_id(),
       (extract(epoch from now()) * 1000000)::bigint,
       (select coalesce(bool_or(is_moved), false) from mine),
       %(base)s::pg_snapshot is null or unseen(own.changed, %(base)s::pg_snapshot),
       array(select id from page order by n), array(select active_at from page order by n),
       array(select floor_seq from page order by n),
       array(select news from page order by n), array(select are_told::int::bigint from page order by n),
       array(select is_silenced::int::bigint from page order by n)
from (select (select u.own_changed from users u where u.id = %(user)s::uuid) as changed) own;

-- name: messages
-- See unseen_messages() in functions/.
select conversation, seq, id, created, sender, content_type, content, nonce, ephemeral_public_key, revision::bigint,
       edited, reply_to, attachments, thumbnail, temp_id, device, is_quiet, quiet_count, is_gone, deleted_by,
       has_envelopes, follows, is_beyond
from unseen_messages(%(user)s::uuid, %(conversations)s::uuid[], %(after)s::bigint[], %(newest)s::bigint[],
                     %(bases)s::pg_snapshot[], %(limit)s, %(bytes)s);

-- name: counts
-- For the user's own messages among the last ones of some conversations: how many recipients have each, how many have
-- read it, and how many there are.
select c.id, m.seq, count(*) filter (where r.delivered_seq >= m.seq), count(*) filter (where r.read_seq >= m.seq),
       count(*)
from unnest(%(conversations)s::uuid[]) g(id)
join conversations c on c.id = g.id
join participants me on me.conversation_id = c.id and me.user_id = %(user)s::uuid
cross join lateral (
    select w.seq from readable_messages(c.id, me.user_id, floor_of(c, me)) w
    where w.seq > c.last_seq - %(counted)s and w.sender_id = %(user)s::uuid and w.deleted is null and not w.is_silent
) m
cross join lateral recipients_of(c.id, m.seq, %(user)s::uuid) r
group by c.id, m.seq order by c.id, m.seq;

-- name: departed
-- The stays that have ended in those of some conversations where the user takes no part now, with the version of the
-- list of participants. Both are of one moment: a later version may be that of the user coming back.
select c.id, c.participants_version, d.user_id, d.delivered_seq, d.read_seq, d.since_seq, d.removed_by, d.left_seq
from conversations c join departures d on d.user_id = %(user)s::uuid and d.conversation_id = c.id
where c.id = any(%(conversations)s::uuid[])
  and not exists (select from participants p where p.conversation_id = c.id and p.user_id = %(user)s::uuid);

-- name: take_cursor_snapshot
-- A commit that is surely on disk, and its number: after a crash Postgres assigns no number below it again.
insert into progress (task, upto) values ('cursor_snapshot', clock_timestamp())
on conflict (task) do update set upto = excluded.upto
returning pg_current_xact_id()::text;

-- name: now
-- The snapshot of what has been committed, the id of the history, the time, and whether the nodes are told of the
-- deletions of accounts that it sees: a worker tells them after its commits, and may be killed in between.
select pg_current_snapshot()::text, history_id(), (extract(epoch from now()) * 1000000)::bigint,
       not exists (select from account_deletions d where d.untold_since between '-infinity' and 'infinity');
