-- name: changed
-- Which conversations of a user have changed since a snapshot, the latest message first: a page of them; one row, also if there
-- is none. base: null on a device that holds nothing. marks: a snapshot as old or older, since which marks are told. target:
-- what the first page saw; null for the first page. Page after page goes from `active_at` and `position` downwards; those that a
-- message has moved up meanwhile are left out of that, and come last: with `are_moved`, from `position` upwards.
-- Of each conversation: when it was active; up to which seq nothing is for the user; what of it is new: 'left' (the user takes part no more), 'came' (the user takes part since then),
-- 'whole' (who takes part, or the settings), 'head' (its messages, its floor, or what is the user's own), 'marks' (others' marks
-- or profiles alone), 'counts' (how far the user's own messages have come, where many take part); whether the latter are to be
-- told; whether messages are told since `marks`: somebody whom the user blocks has written, which no device is told live.
-- Besides, in the same statement: a new snapshot, the last transaction that it surely saw, whose history this is, what time it
-- is, whether there are some for `are_moved`, and whether what the user has set is to be told (see own_settings.sql).
with mine as materialized (
    select c.id, (extract(epoch from c.active_at) * 1000000)::bigint as active_at,
           floor_of(c, me) as floor_seq,
           greatest(c.changed, me.changed, me.marked, me.own_changed, me.own_marked, me.own_shown, who.changed, who.marked)
               as changed,
           unseen(c.changed, %(target)s::pg_snapshot) as is_moved,
           case when %(base)s::pg_snapshot is null then 'whole'
                when unseen(me.added, %(base)s::pg_snapshot) then 'came'
                when unseen(c.participants_changed, %(base)s::pg_snapshot)
                     or unseen(me.own_shown, %(base)s::pg_snapshot) then 'whole'
                when unseen(c.changed, %(base)s::pg_snapshot) or unseen(me.changed, %(base)s::pg_snapshot)
                     or unseen(me.own_changed, %(base)s::pg_snapshot) or unseen(me.silenced, %(marks)s::pg_snapshot) then 'head'
                when unseen(me.marked, %(marks)s::pg_snapshot) or unseen(me.own_marked, %(marks)s::pg_snapshot)
                     or who.size <= %(most)s and (who.is_changed or who.is_marked) then 'marks'
                when counted.are_told then 'counts' end as news,
           counted.are_told, unseen(me.silenced, %(marks)s::pg_snapshot) as is_silenced
    from participants me
    join conversations c on c.id = me.conversation_id
    cross join lateral (
        -- Where many take part, others' marks and profiles are shown to nobody, and nobody else's rows are looked at.
        select count(*) as size, max(p.changed) as changed, max(p.marked) as marked,
               bool_or(unseen(p.changed, %(base)s::pg_snapshot)) as is_changed,
               bool_or(unseen(p.marked, %(marks)s::pg_snapshot)) as is_marked
        from (select p.changed, p.marked from shown_participants p where p.conversation_id = c.id limit %(most)s + 1) p
    ) who
    cross join lateral (
        -- In this order: most have written none of the last messages.
        select who.size > %(most)s and me.written_seq > greatest(c.last_seq - %(counted)s, floor_of(c, me))
        and (%(base)s::pg_snapshot is null or unseen(c.changed, %(marks)s::pg_snapshot) or exists (
            select from participants p where p.conversation_id = c.id and unseen(p.marked, %(marks)s::pg_snapshot)
        )) as are_told
    ) counted
    where me.user_id = %(user)s::uuid
    union all
    -- Beyond all messages: none of them is for the user.
    select d.conversation_id, 0, 4611686018427387904, d.changed, unseen(d.changed, %(target)s::pg_snapshot), 'left', false, false
    from departures d
    where d.user_id = %(user)s::uuid and unseen(d.changed, %(base)s::pg_snapshot)
), page as (
    (select m.*, row_number() over (order by m.active_at desc, m.id desc) as n from mine m
     where m.news is not null and not %(are_moved)s::boolean and (m.active_at, m.id) <= (%(active_at)s::bigint, %(position)s::uuid)
     order by n limit %(limit)s)
    union all
    (select m.*, row_number() over (order by m.id) as n from mine m
     where m.news is not null and %(are_moved)s::boolean and m.is_moved and m.id >= %(position)s::uuid
     order by n limit %(limit)s)
)
select pg_current_snapshot()::text, greatest(own.changed, (select max(changed) from mine))::text, history_id(),
       (extract(epoch from now()) * 1000000)::bigint,
       (select coalesce(bool_or(is_moved), false) from mine), %(base)s::pg_snapshot is null or unseen(own.changed, %(base)s::pg_snapshot),
       array(select id from page order by n), array(select active_at from page order by n),
       array(select floor_seq from page order by n),
       array(select news from page order by n), array(select are_told::int::bigint from page order by n),
       array(select is_silenced::int::bigint from page order by n)
from (select (select u.own_changed from users u where u.id = %(user)s::uuid) as changed) own;

-- name: messages
-- See unseen_messages() in functions/.
select conversation, seq, id, created, sender, content_type, content, nonce, ephemeral_public_key, revision::bigint, edited,
       reply_to, temp_id, is_gone, deleted_by, is_beyond
from unseen_messages(%(user)s::uuid, %(conversations)s::uuid[], %(after)s::bigint[], %(newest)s::bigint[], %(bases)s::pg_snapshot[],
                     %(limit)s, %(bytes)s);

-- name: counts
-- Of a user's own messages among the last ones of some conversations: to how many users each has come, how many have read it,
-- and for how many it is.
select c.id, m.seq, count(*) filter (where r.delivered_seq >= m.seq), count(*) filter (where r.read_seq >= m.seq), count(*)
from unnest(%(conversations)s::uuid[]) g(id)
join conversations c on c.id = g.id
join participants me on me.conversation_id = c.id and me.user_id = %(user)s::uuid
cross join lateral (
    select w.seq from readable_messages(c, me) w
    where w.seq > c.last_seq - %(counted)s and w.sender_id = %(user)s::uuid and w.deleted is null and not w.is_silent
) m
cross join lateral recipients_of(c.id, m.seq, %(user)s::uuid) r
group by c.id, m.seq order by c.id, m.seq;

-- name: departed
-- Those of some conversations in which a user takes part no more, the stay that has ended, and which state the list of participants is in: of the same
-- moment, as a later one may be that of their coming back.
select c.id, c.participants_version, d.user_id, d.delivered_seq, d.read_seq, d.since_seq, d.removed_by, d.left_seq
from conversations c join departures d on d.user_id = %(user)s::uuid and d.conversation_id = c.id
where c.id = any(%(conversations)s::uuid[])
  and not exists (select from participants p where p.conversation_id = c.id and p.user_id = %(user)s::uuid);

-- name: take_cursor_snapshot
-- A commit that is surely on disk, and its number: no crash of Postgres gives out again what is below it.
insert into progress (task, upto) values ('cursor_snapshot', clock_timestamp())
on conflict (task) do update set upto = excluded.upto
returning pg_current_xact_id()::text;

-- name: now
-- What has been committed, whose history it is, and what time it is.
select pg_current_snapshot()::text, history_id(), (extract(epoch from now()) * 1000000)::bigint;
