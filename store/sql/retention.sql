-- name: move_floors
-- See move_floors() in functions/.
select looked_at, moved from move_floors(%(days)s::float8, %(archives)s, %(limit)s);

-- name: unannounced
-- Conversations whose floor has moved and whose participants have not been told: their settings and participants. Users
-- with a lifetime of their own see settings of their own and have an own floor. That may have moved alone: then no
-- message lies below the floor of the conversation.
select c.id, c.name, seen.floor_seq, c.participants_version, c.joiners_see_all, seen.lifetime_s, seen.settings_by,
       (select v.told from avatars v where v.id = c.avatar),
       case when c.quiet_count > 0 then quiet_at(c, seen.floor_seq) end, seen.users
from (select e.conversation_id from expiries e where not e.is_cleared and not e.is_announced limit %(limit)s) e
cross join lateral (select * from conversations c where c.id = e.conversation_id limit 1) c
cross join lateral (
    select c.floor_seq, c.lifetime_s, c.settings_by,
           array(select p.user_id from participants p
               where p.conversation_id = c.id and p.own_lifetime_s is null) as users
    where exists (select from messages m where m.conversation_id = c.id and m.seq <= c.floor_seq)
    union all
    select floor_of(c, p), nullif(p.own_lifetime_s, 0), p.user_id, array[p.user_id]
    from participants p where p.conversation_id = c.id and p.own_lifetime_s is not null
) seen;

-- name: note_announced
-- Notes that the participants were told. The floors do not move until the messages below are deleted, so they were told
-- of the present ones.
update expiries set is_announced = true where conversation_id = any(%(conversations)s::uuid[]) and not is_cleared;

-- name: uncleared
-- Conversations where messages are to be deleted after the participants were told, and whether they are to be
-- archived first.
select e.conversation_id, e.wants_archive from expiries e where not e.is_cleared and e.is_announced limit %(limit)s;

-- name: below
-- The oldest messages at or below a floor, as their senders saw them last, oldest first: within a number of
-- bytes (message_bytes), or the first message. They do not change again.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.attachments, m.thumbnail, null::uuid, m.device_id, m.is_quiet, nullif(m.quiet_count, 0), m.deleted is not null, m.deleted_by,
       m.has_envelopes, m.follows
from (
    select oldest.*, sum(oldest.size) over (order by oldest.seq) as bytes,
           row_number() over (order by oldest.seq) as n
    from (
        select m.*, message_bytes(m) as size from messages m
        where m.conversation_id = %(conversation)s::uuid
          and m.seq <= (select c.floor_seq from conversations c where c.id = %(conversation)s::uuid)
        order by m.seq limit %(limit)s
    ) oldest
) m
where m.n = 1 or m.bytes <= %(bytes)s
order by m.seq;

-- name: clear
-- Deletes a batch of messages at or below a floor, the oldest first, and the rows that refer to them. Their attachments
-- are orphaned: a job removes attachments without a message. If none are left, the floor may move again. One row: how
-- many this call deleted, without those that another call has deleted meanwhile. No row: there is nothing to delete, or
-- another transaction does it.
-- Locks only rows that are not written any longer, and none that a send needs.
with target as (
    select e.conversation_id, (select c.floor_seq from conversations c where c.id = e.conversation_id) as floor_seq
    from expiries e where e.conversation_id = %(conversation)s::uuid and not e.is_cleared for update skip locked
), batch as (
    select m.conversation_id, m.seq from target t cross join lateral (
        select m.conversation_id, m.seq from messages m
        where m.conversation_id = t.conversation_id and m.seq <= least(t.floor_seq, %(upto)s::bigint)
        order by m.seq limit %(limit)s
    ) m
), orphaned as (
    update attachments a set conversation_id = null, seq = null
    from batch b where a.conversation_id = b.conversation_id and a.seq = b.seq
), unrevised as (
    delete from revisions r using batch b where r.conversation_id = b.conversation_id and r.seq = b.seq
), unsealed as (
    delete from envelopes e using batch b where e.conversation_id = b.conversation_id and e.seq = b.seq
), unhidden as (
    delete from hidden h using batch b where h.conversation_id = b.conversation_id and h.seq = b.seq
), ended as (
    delete from stays s using target t where s.conversation_id = t.conversation_id and s.left_seq <= t.floor_seq
), gone as (
    delete from messages m using batch b where m.conversation_id = b.conversation_id and m.seq = b.seq returning 1
), noted as (
    update expiries e set is_cleared = true from target t
    where e.conversation_id = t.conversation_id and not exists (
        select from messages m
        where m.conversation_id = t.conversation_id and m.seq <= t.floor_seq
          and m.seq > coalesce((select max(b.seq) from batch b), 0))
)
select (select count(*) from gone) from target;
