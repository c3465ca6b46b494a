-- name: mark
-- A batch of up-to marks: they never go back, nor beyond the last message. Rows are locked in key order before any is
-- updated: an update by itself locks them as its plan happens to meet them, and deadlocks with sends and other marks.
with given as (
    select m.conversation_id, m.user_id, max(greatest(m.delivered, m.read)) as delivered, max(m.read) as read
    from unnest(%(conversation)s, %(user)s, %(delivered)s, %(read)s) as m(conversation_id, user_id, delivered, read)
    group by m.conversation_id, m.user_id
), mark as (
    select p.conversation_id, p.user_id, least(g.delivered, c.last_seq) as delivered, least(g.read, c.last_seq) as read
    from given g
    join participants p on p.conversation_id = g.conversation_id and p.user_id = g.user_id
    join conversations c on c.id = g.conversation_id
    where p.delivered_seq < least(g.delivered, c.last_seq) or p.read_seq < least(g.read, c.last_seq)
    order by p.conversation_id, p.user_id for no key update of p /* skip locked */
)
update participants p
set delivered_seq = greatest(p.delivered_seq, mark.delivered), read_seq = greatest(p.read_seq, mark.read),
    changed = pg_current_xact_id()
from mark where p.conversation_id = mark.conversation_id and p.user_id = mark.user_id;

-- name: behind
-- Of the same marks, those that are not written.
select p.conversation_id, p.user_id
from unnest(%(conversation)s, %(user)s, %(delivered)s, %(read)s) as m(conversation_id, user_id, delivered, read)
join participants p on p.conversation_id = m.conversation_id and p.user_id = m.user_id
join conversations c on c.id = m.conversation_id
where p.delivered_seq < least(greatest(m.delivered, m.read), c.last_seq) or p.read_seq < least(m.read, c.last_seq);
