-- name: mark_delivered
-- A batch of up-to marks: they never go back, nor beyond the last message.
update participants p
set delivered_seq = least(mark.seq, c.last_seq)
from (
    select m.conversation_id, m.user_id, max(m.seq) as seq
    from unnest(%(conversation)s, %(user)s, %(seq)s) as m(conversation_id, user_id, seq)
    group by m.conversation_id, m.user_id order by m.conversation_id, m.user_id
) mark
join conversations c on c.id = mark.conversation_id
where p.conversation_id = mark.conversation_id and p.user_id = mark.user_id
  and p.delivered_seq < least(mark.seq, c.last_seq);
