-- name: changed
-- Which conversations of a user have changed since a snapshot, in order of their ids: a page of them; one row, also if there
-- is none. base: null on a device that holds nothing. marks: a snapshot as old or older, since which marks are told. Of each
-- conversation: up to which seq
-- nothing is for the user; what of it is new: 'left' (the user takes part no more), 'whole' (who takes part, or the settings),
-- 'head' (its messages, its floor, or what is the user's own), 'marks' (others' marks or profiles alone).
-- Besides, in the same statement: a new snapshot, the last transaction that it surely saw, whose history this is, and what
-- time it is.
with mine as materialized (
    select c.id, greatest(me.joined_seq, c.floor_seq) as floor_seq,
           greatest(c.changed, me.changed, me.marked, who.changed, who.marked) as changed,
           case when %(base)s::pg_snapshot is null or unseen(c.members_changed, %(base)s::pg_snapshot) then 'whole'
                when unseen(c.changed, %(base)s::pg_snapshot) or unseen(me.changed, %(base)s::pg_snapshot) then 'head'
                when unseen(me.marked, %(marks)s::pg_snapshot)
                     or who.size <= %(most)s and (who.is_changed or who.is_marked) then 'marks' end as news
    from participants me
    join conversations c on c.id = me.conversation_id
    cross join lateral (
        -- Where many take part, others' marks and profiles are shown to nobody, and nobody else's rows are looked at.
        select count(*) as size, max(p.changed) as changed, max(p.marked) as marked,
               bool_or(unseen(p.changed, %(base)s::pg_snapshot)) as is_changed,
               bool_or(unseen(p.marked, %(marks)s::pg_snapshot)) as is_marked
        from (select p.changed, p.marked from participants p where p.conversation_id = c.id limit %(most)s + 1) p
    ) who
    where me.user_id = %(user)s::uuid
    union all
    -- Beyond all messages: none of them is for the user.
    select d.conversation_id, 4611686018427387904, d.changed, 'left' from departures d
    where d.user_id = %(user)s::uuid and unseen(d.changed, %(base)s::pg_snapshot)
), page as (
    select id, floor_seq, news from mine
    where news is not null and id >= %(position)s::uuid order by id limit %(limit)s
)
select pg_current_snapshot()::text, (select max(changed) from mine)::text, history_id(), (extract(epoch from now()) * 1000000)::bigint,
       array(select id from page order by id), array(select floor_seq from page order by id),
       array(select news from page order by id);

-- name: messages
-- See unseen_messages() in functions/.
select conversation, seq, id, created, sender, content_type, content, nonce, ephemeral_public_key, revision::bigint, edited,
       reply_to, is_gone, is_beyond
from unseen_messages(%(user)s::uuid, %(conversations)s::uuid[], %(after)s::bigint[], %(base)s::pg_snapshot, %(limit)s, %(bytes)s);

-- name: departed
-- Those of some conversations in which a user takes part no more, and which state the list of participants is in: of the same
-- moment, as a later one may be that of their coming back.
select c.id, c.members_version from conversations c
where c.id = any(%(conversations)s::uuid[])
  and not exists (select from participants p where p.conversation_id = c.id and p.user_id = %(user)s::uuid);

-- name: tide
-- A commit that is surely on disk, and its number: no crash of Postgres gives out again what is below it.
insert into progress (task, upto) values ('tide', clock_timestamp())
on conflict (task) do update set upto = excluded.upto
returning pg_current_xact_id()::text;

-- name: now
-- What has been committed, whose history it is, and what time it is.
select pg_current_snapshot()::text, history_id(), (extract(epoch from now()) * 1000000)::bigint;
