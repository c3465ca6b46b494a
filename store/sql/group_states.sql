-- name: put
-- See put_group_state() in functions/.
select outcome, control_seq from put_group_state(%(user)s, %(device)s, %(conversation)s, %(control_seq)s, %(body)s);

-- name: state
-- The last control message of a user's conversation, and the state after it: null until it is put. A user who blocks the
-- other one of a direct conversation is not shown that one's.
select c.control_seq, s.revision, s.device_id, (extract(epoch from s.put) * 1000000)::bigint,
       case when %(has_body)s then s.body end
from participants p
join conversations c on c.id = p.conversation_id
left join group_states s on s.conversation_id = c.id and s.control_seq = c.control_seq
                        and (s.user_id = p.user_id or not is_blocker(c, p.user_id))
where p.conversation_id = %(conversation)s and p.user_id = %(user)s and p.asked_by is null;
