-- name: stamped
-- The first conversations of a user's list, as `page` in conversations.sql finds them: only what `stamps` needs.
select c.id as conversation_id, c.active_at, c.participant_count as size, c.changed,
       me.changed as participant_changed, me.marked, c.devices_version, me.own_changed, me.own_marked, me.own_shown
from participants me
cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
where me.user_id = (select reader.user_id from reader) and me.asked_by is null
order by c.active_at desc, c.id desc limit %(limit)s

-- name: head_stamp
-- The stamps of a conversation in `page`; `participant_stamp` has those of one of its `people`. Each commit that changes
-- what a list shows of the conversation changes one of them. A send writes `changed` of its conversation, so the marks
-- that it moves need no more. If more users take part than `people` has, the list shows only how many, and a change of
-- that writes `changed`, too.
row(me.conversation_id, me.changed, me.participant_changed, me.marked, me.devices_version, me.own_changed, me.own_marked,
    me.own_shown)

-- name: participant_stamp
-- See `head_stamp`.
row(s.conversation_id, s.user_id, s.changed, s.marked)

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
