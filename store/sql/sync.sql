-- name: changed
-- Which conversations of a user have changed since a snapshot, in order of their ids: a page of them, with the seq from
-- before the user joined; one row, also if there is none. The snapshot is null on a device that holds nothing.
-- Besides, in the same statement: a new snapshot, the last transaction that it surely saw, and whose history this is.
with mine as materialized (
    select c.id, me.joined_seq, greatest(c.changed, who.changed) as changed,
           %(base)s::pg_snapshot is null or not pg_visible_in_snapshot(c.changed, %(base)s::pg_snapshot) or who.has_changed
               as has_changed
    from participants me
    join conversations c on c.id = me.conversation_id
    cross join lateral (
        -- Of all, not of the user alone: others' marks are part of what a conversation shows.
        select max(p.changed) as changed,
               bool_or(not pg_visible_in_snapshot(p.changed, %(base)s::pg_snapshot)) as has_changed
        from participants p where p.conversation_id = c.id
    ) who
    where me.user_id = %(user)s::uuid
), page as (
    select id, joined_seq from mine
    where has_changed and id >= %(position)s::uuid order by id limit %(limit)s
)
select pg_current_snapshot()::text, (select max(changed) from mine)::text, (select h.id from history h),
       array(select id from page order by id), array(select joined_seq from page order by id);

-- name: messages
-- See unseen_messages() in the migrations.
select conversation, seq, id, created, sender, content_type, content, nonce, ephemeral_public_key, revision, edited,
       reply_to, is_gone, is_beyond
from unseen_messages(%(user)s::uuid, %(conversations)s::uuid[], %(after)s::bigint[], %(base)s::pg_snapshot, %(limit)s, %(bytes)s);
