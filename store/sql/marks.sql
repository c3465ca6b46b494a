-- name: mark
-- A batch of marks: they never go back, nor beyond the last message. The select locks the rows in key order before the
-- update: an update alone locks them in the order of its plan, and deadlocks with sends and other marks. A user who
-- gives no receipts reads in private; in a request or beside a block, no mark is shown (is_private).
--
-- A row for each participant whose marks have moved: the marks that others see; the marks that the user sees; whether
-- the own read mark moved (then the reader's other devices are told); the device that moved it; the seq after which
-- messages were passed; the senders of these, who are to be told (null: too many take part, so counts are told instead);
-- and how many of the messages up to the own read mark are quiet (null: none of the conversation is, or it is not known).
--
-- The limit and the offset make Postgres look up each row by its whole key. Without them it reads, for each mark, all
-- participants of the conversation, or all users. A mark that reads nothing needs no user.
with given as (
    -- If two devices mark in one batch, it is the one that has read furthest: both have the messages.
    select m.conversation_id, m.user_id, max(greatest(m.delivered, m.read)) as delivered, max(m.read) as read,
           (array_agg(m.device order by m.read desc))[1] as device
    from unnest(%(conversation)s, %(user)s, %(delivered)s, %(read)s, %(device)s)
        as m(conversation_id, user_id, delivered, read, device)
    group by m.conversation_id, m.user_id
), mark as (
    select p.conversation_id, p.user_id, p.delivered_seq as old_delivered, p.read_seq as old_read,
           greatest(p.read_seq, p.private_read_seq) as old_own_read, g.device, c.participant_count, c.last_seq,
           c.quiet_count,
           case when c.is_private then 0 else least(g.delivered, c.last_seq) end as delivered,
           case when c.is_private or not u.gives_receipts then 0 else least(g.read, c.last_seq) end as read,
           case when c.is_private then least(g.delivered, c.last_seq) else 0 end as private_delivered,
           case when c.is_private or not u.gives_receipts then least(g.read, c.last_seq) else 0 end as private_read
    from given g
    join participants p on p.conversation_id = g.conversation_id and p.user_id = g.user_id
    cross join lateral (
        select c.last_seq, c.participant_count, c.quiet_count, is_private(c, p) as is_private
        from conversations c where c.id = g.conversation_id limit 1
    ) c
    left join lateral (select u.gives_receipts from users u where u.id = g.user_id and g.read > 0 limit 1) u on true
    where greatest(p.delivered_seq, case when c.is_private then p.private_delivered_seq end)
          < least(g.delivered, c.last_seq)
       or greatest(p.read_seq, case when not u.gives_receipts or c.is_private then p.private_read_seq end)
          < least(g.read, c.last_seq)
    order by p.conversation_id, p.user_id for no key update of p /* skip locked */
), moved as (
    update participants p
    set delivered_seq = greatest(p.delivered_seq, mark.delivered), read_seq = greatest(p.read_seq, mark.read),
        private_delivered_seq = greatest(p.private_delivered_seq, mark.private_delivered),
        private_read_seq = greatest(p.private_read_seq, mark.private_read),
        uncounted = case when p.uncounted = 0 then 0 else p.uncounted - uncounted_between(
            p.conversation_id, p.user_id, count_base(p), greatest(count_base(p), mark.read, mark.private_read)) end,
        -- The other participants are not told that a private mark moved, nor when.
        marked = case when p.delivered_seq < mark.delivered or p.read_seq < mark.read then pg_current_xact_id()
                      else p.marked end,
        own_marked = case when p.private_delivered_seq < mark.private_delivered
                               or p.private_read_seq < mark.private_read
                          then pg_current_xact_id() else p.own_marked end,
        delivered_by = case when p.delivered_seq < mark.delivered or p.private_delivered_seq < mark.private_delivered
                            then mark.device else p.delivered_by end
    from mark
    where p.conversation_id = mark.conversation_id and p.user_id = mark.user_id
      and (p.delivered_seq < mark.delivered or p.read_seq < mark.read
           or p.private_delivered_seq < mark.private_delivered or p.private_read_seq < mark.private_read)
    returning p.conversation_id, p.user_id, p.delivered_seq, p.read_seq,
              greatest(p.delivered_seq, p.private_delivered_seq) as own_delivered,
              greatest(p.read_seq, p.private_read_seq) as own_read, mark.old_own_read, mark.device,
              mark.participant_count, mark.last_seq, mark.quiet_count,
              greatest(case when p.read_seq > mark.old_read then mark.old_read else mark.old_delivered end, p.since_seq)
                  as after,
              greatest(p.delivered_seq, p.read_seq) > mark.old_delivered or p.read_seq > mark.old_read as is_public
)
select m.conversation_id, m.user_id, m.delivered_seq, m.read_seq, m.own_delivered, m.own_read,
       m.own_read > m.old_own_read, m.device, m.after,
       case when not m.is_public then '{}'
            when m.participant_count > %(most)s then null
            when m.delivered_seq - m.after > 100 then array(
                select p.user_id from participants p
                where p.conversation_id = m.conversation_id and p.user_id <> m.user_id)
            else array(
                select distinct w.sender_id from messages w
                where w.conversation_id = m.conversation_id and w.seq > m.after and w.seq <= m.delivered_seq
                  and w.sender_id <> m.user_id and exists (
                      select from participants p
                      where p.conversation_id = m.conversation_id and p.user_id = w.sender_id offset 0))
       end,
       case when m.quiet_count > 0 and m.own_read > m.old_own_read then
           case when m.own_read >= m.last_seq then m.quiet_count else quiet_upto(m.conversation_id, m.own_read) end end
from moved m;

-- name: behind
-- Those of the same marks that are not written.
select p.conversation_id, p.user_id
from unnest(%(conversation)s, %(user)s, %(delivered)s, %(read)s) as m(conversation_id, user_id, delivered, read)
join participants p on p.conversation_id = m.conversation_id and p.user_id = m.user_id
join conversations c on c.id = m.conversation_id
where greatest(p.delivered_seq, p.private_delivered_seq) < least(greatest(m.delivered, m.read), c.last_seq)
   or greatest(p.read_seq, p.private_read_seq) < least(m.read, c.last_seq);


-- name: receipt_counts
-- For the latest messages of a conversation that marks have passed: how many recipients have each, how many have read
-- it, and how many there are. For each sender who still takes part and may read the message.
select m.sender_id, m.seq, count(*) filter (where r.delivered_seq >= m.seq),
       count(*) filter (where r.read_seq >= m.seq), count(*)
from conversations c
cross join lateral (
    select w.sender_id, w.seq from messages w
    where w.conversation_id = c.id and w.seq <= %(upto)s and w.seq > greatest(%(after)s, c.floor_seq)
      and w.deleted is null and not w.is_silent
    order by w.seq desc limit %(limit)s
) m
join participants author on author.conversation_id = c.id and author.user_id = m.sender_id
    and m.seq > floor_of(c, author)
cross join lateral recipients_of(c.id, m.seq, m.sender_id) r
where c.id = %(conversation)s
group by m.sender_id, m.seq order by m.seq;

-- name: message_status
-- The marks of the recipients of a message. A row with nulls: it has no recipients. No row: the user may not read it. A
-- blocker of the sender is shown as well, with the marks from when the block began.
select r.user_id,
       case when r.user_id = me.user_id then greatest(r.delivered_seq, me.private_delivered_seq)
            else r.delivered_seq end,
       case when r.user_id = me.user_id then greatest(r.read_seq, me.private_read_seq) else r.read_seq end, m.sender_id
from participants me
join conversations c on c.id = me.conversation_id
join lateral readable_messages(c.id, me.user_id, floor_of(c, me)) m on m.seq = %(seq)s
left join lateral recipients_of(me.conversation_id, m.seq, m.sender_id) r on true
where me.conversation_id = %(conversation)s and me.user_id = %(user)s
order by r.user_id;

-- name: direct
-- The direct conversation of two users, and up to where the first one has it and has read it, also where others are not
-- shown that.
select p.conversation_id, p.delivered_seq, greatest(p.read_seq, p.private_read_seq)
from conversations c join participants p on p.conversation_id = c.id and p.user_id = %(user)s::uuid
where c.direct_low = least(%(user)s::uuid, %(other)s::uuid)
  and c.direct_high = greatest(%(user)s::uuid, %(other)s::uuid);
