-- name: by_id
-- Where a message is, by its id, which begins with the time when the gateway took it. Only of messages whose keys
-- of sends are kept.
select s.conversation_id, s.seq from sends s
where s.created between to_timestamp((%(ms)s - %(margin_ms)s) / 1000.0)
                    and to_timestamp((%(ms)s + %(margin_ms)s) / 1000.0)
  and s.message_id = %(message)s::uuid
limit 1;

-- name: conversation
-- A conversation, without its name. No row: there is none.
select c.kind, c.last_seq, c.floor_seq, c.is_closed, c.participant_count::bigint,
       (extract(epoch from clock_timestamp()) * 1000000)::bigint
from conversations c where c.id = %(conversation)s::uuid;

-- name: message
-- A message, without its content. No row: Postgres has none with this number.
select m.id, m.sender_id, (select u.username from users u where u.id = m.sender_id),
       (extract(epoch from m.created) * 1000000)::bigint, m.is_silent, m.is_quiet,
       (extract(epoch from m.edited) * 1000000)::bigint, (extract(epoch from m.deleted) * 1000000)::bigint,
       m.deleted_by,
       case when m.has_envelopes then (
           select count(distinct d.id) from envelopes e cross join lateral unnest(e.devices) d(id)
           where e.conversation_id = m.conversation_id and e.seq = m.seq) end
from messages m
where m.conversation_id = %(conversation)s::uuid and m.seq = %(seq)s;

-- name: recipients
-- The users who take part or took part in a conversation, as far as a message concerns them: those who have not marked
-- it delivered first. The marks that count for them alone are among the marks.
select found.user_id, u.username, found.part, found.after_seq, found.left_seq,
       found.delivered, found.delivered_by, found.read, (extract(epoch from found.muted_until) * 1000000)::bigint,
       found.asked_seq, u.is_closed, u.suspended is not null, u.deleted is not null,
       q.from_minute::bigint, q.until_minute::bigint, q.zone
from (
    select p.user_id, 'participant' as part, greatest(p.joined_seq, p.since_seq) as after_seq, null::bigint as left_seq,
           greatest(p.delivered_seq, p.private_delivered_seq, p.private_read_seq) as delivered, p.delivered_by,
           greatest(p.read_seq, p.private_read_seq) as read, p.muted_until,
           case when p.asked_by is not null then
               coalesce(first_counted(p.conversation_id, p.asked_seq) - 1, p.asked_seq) end as asked_seq
    from participants p where p.conversation_id = %(conversation)s::uuid
    union all
    select w.user_id, 'withheld', w.since_seq, null, w.delivered_seq, null, w.read_seq, null, null
    from withheld w where w.conversation_id = %(conversation)s::uuid
    union all
    select d.user_id, 'left', d.since_seq, d.left_seq, d.delivered_seq, null,
           greatest(d.read_seq, d.private_read_seq), null, null
    from departures d where d.conversation_id = %(conversation)s::uuid
) found
-- The limit makes Postgres look up each by its key.
cross join lateral (select * from users u where u.id = found.user_id limit 1) u
left join lateral (select * from quiet_hours q where q.user_id = found.user_id limit 1) q on true
where found.user_id <> %(sender)s::uuid and (%(user)s::uuid is null or found.user_id = %(user)s::uuid)
order by found.delivered >= %(seq)s, found.part, u.username limit %(limit)s;

-- name: queues
-- How far the worker has come: when the oldest message was created that waits in the debounce window, and in the read
-- window; and which of the tasks of notices are paused.
select (select (extract(epoch from o.created) * 1000000)::bigint from outbox o order by o.id limit 1),
       (select (extract(epoch from r.created) * 1000000)::bigint from read_windows r order by r.id limit 1),
       array(select p.task from paused_tasks p where p.task in ('offline_notice', 'notify') order by p.task);
