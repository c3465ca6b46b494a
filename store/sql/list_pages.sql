-- name: stamped
-- The first conversations of a user's list, as `page` in conversations.sql finds them: only what `digests` needs.
select c.id as conversation_id, c.active_at, c.participant_count as size, c.changed,
       me.changed as participant_changed, me.marked, me.own_changed, me.own_marked, me.own_shown
from participants me
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = (select reader.user_id from reader) and me.asked_by is null
order by c.active_at desc, c.id desc limit %(limit)s

-- name: stamps
-- Digests of all that a list shows of the conversations in `page`, several for each: each commit that changes what it
-- shows of a conversation changes one of them. A send writes `changed` of its conversation, so the marks that it moves
-- need no more. If more than %(most)s users take part, the list shows only how many, and a change of that writes
-- `changed`, too.
select each.conversation_id, hash_record_extended(each.stamps, 1) as one, hash_record_extended(each.stamps, 2) as other
from (
    select p.conversation_id, row(p.conversation_id, p.changed, p.participant_changed, p.marked, p.own_changed,
                                  p.own_marked, p.own_shown) as stamps
    from page p
    union all
    select p.conversation_id, row(p.conversation_id, p.user_id, p.changed, p.marked) from people p
) each

-- name: digests
-- The digest of each conversation in `page`: two exclusive ors of 64 bits. Two states with the same digest are as
-- unlikely as a forged signature.
select s.conversation_id, bit_xor(s.one) as one, bit_xor(s.other) as other from stamps s group by s.conversation_id

-- name: state
-- The digest of all conversations in `page` together. Unless the caller knows it, also the id, the time of the latest
-- message and the digest of each.
select whole.one, whole.other, each.ids, each.active_at, each.ones, each.others
from (select coalesce(bit_xor(s.one), 0) as one, coalesce(bit_xor(s.other), 0) as other from stamps s) whole
cross join lateral (
    select array_agg(p.conversation_id) as ids,
           array_agg((extract(epoch from p.active_at) * 1000000)::bigint) as active_at,
           array_agg(d.one) as ones, array_agg(d.other) as others
    from page p join digests d on d.conversation_id = p.conversation_id
    where (whole.one, whole.other) <> (%(one)s, %(other)s)
) each

-- name: digest_rows
-- The digests as a further kind of rows, 3, beside those of `entries` in conversations.sql.
select 3, null, d.conversation_id, null, null, null, null, d.one, d.other, null, null, null, null, null, null, null, null,
       null, null,
       null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
from digests d
