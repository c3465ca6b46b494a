-- name: send
-- A batch of sends in one transaction; see send_batch() in functions/.
select n, outcome, seq, id, created, recipients_version, participant_ids
from send_batch(%(lock_ms)s, %(conversations)s, %(conversation)s, %(known_version)s, %(id)s, %(sender)s, %(temp_id)s,
                %(digest)s, %(content_type)s, %(content)s, %(nonce)s, %(ephemeral_public_key)s, %(reply_to)s);

-- name: sent_before
-- What sends of long ago were answered with, if that is still known.
select i.n, s.seq, s.message_id, (extract(epoch from s.created) * 1000000)::bigint,
       s.digest = i.digest and s.conversation_id = i.conversation_id
from unnest(%(sender)s::uuid[], %(temp_id)s::uuid[], %(conversation)s::uuid[], %(digest)s::bytea[])
    with ordinality as i(sender_id, temp_id, conversation_id, digest, n)
join sends s on s.sender_id = i.sender_id and s.temp_id = i.temp_id;

-- name: history_before
-- A page of history, newest first. One row with nulls: a participant, but there is nothing. fits: within the bytes
-- of a page, or its first; what does not fit comes without content.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.temp_id, m.is_gone, m.deleted_by, floor_of(c, p) + 1, m.fits
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    select page.*, row_number() over onward = 1
                   or coalesce(sum(octet_length(page.content)) over onward <= %(bytes)s::bigint, true) as fits
    from (
        select * from readable_messages(c, p) m where m.seq < %(before)s order by m.seq desc limit %(limit)s
    ) page
    window onward as (order by page.seq desc)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq desc;

-- name: history_after
-- A page of history, oldest first. One row with nulls: a participant, but there is nothing. fits: within the bytes
-- of a page, or its first; what does not fit comes without content.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.temp_id, m.is_gone, m.deleted_by, floor_of(c, p) + 1, m.fits
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    select page.*, row_number() over onward = 1
                   or coalesce(sum(octet_length(page.content)) over onward <= %(bytes)s::bigint, true) as fits
    from (
        select * from readable_messages(c, p) m
        where m.seq > %(after)s and m.seq < %(before)s
        order by m.seq limit %(limit)s
    ) page
    window onward as (order by page.seq)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq;

-- name: version
-- Which state a conversation's history is in, as a user sees it: since when they see it, what was written last, and whether
-- some of it is for this user alone.
select floor_of(c, me), c.changed::text::bigint, greatest(me.changed, me.own_changed, me.own_marked)::text::bigint,
       c.kind = 'direct' or exists (
           select from hidden h where h.user_id = me.user_id and h.conversation_id = me.conversation_id
       )
from participants me join conversations c on c.id = me.conversation_id
where me.conversation_id = %(conversation)s and me.user_id = %(user)s;

-- name: history_around
-- Some messages up to one and some after it, oldest first. One row with nulls: a participant, but there is nothing.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.temp_id, m.is_gone, m.deleted_by
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    (select * from readable_messages(c, p) m where m.seq <= %(around)s order by m.seq desc limit %(older)s)
    union all
    (select * from readable_messages(c, p) m where m.seq > %(around)s order by m.seq limit %(newer)s)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq;

-- name: messages_between
-- What a node missed in one conversation: messages after one seq up to another, oldest first. The temp_id is for each sender's
-- devices alone.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.temp_id, m.deleted is not null, m.deleted_by, m.is_silent
from messages m
where m.conversation_id = %(conversation)s::uuid and m.seq <= %(upto)s
  and m.seq > greatest(%(after)s, (select c.floor_seq from conversations c where c.id = %(conversation)s::uuid))
order by m.seq limit %(limit)s;

-- name: active_conversations
-- What may have passed a node by: of the conversations of these users, those that moved since, each with its
-- participants, its last seq, and the last seq that had been there before (below it nothing can be missing).
select c.id, c.last_seq,
       greatest((select m.seq from messages m where m.conversation_id = c.id and m.created < clock_timestamp() - make_interval(secs => %(ago_s)s)
                 order by m.seq desc limit 1), c.floor_seq),
       array(select p.user_id from participants p where p.conversation_id = c.id order by p.user_id),
       array(select p.joined_seq from participants p where p.conversation_id = c.id order by p.user_id)
from conversations c
where c.active_at >= clock_timestamp() - make_interval(secs => %(ago_s)s)
  and c.id in (select p.conversation_id from participants p where p.user_id = any(%(users)s::uuid[]));

-- name: expected_deliveries
-- Which messages of a part of a conversation are for which of some users, who took part when they were written: the user, the
-- seq, and when it was written. Not those that the user wrote.
select p.user_id, m.seq, (extract(epoch from m.created) * 1000000)::bigint
from unnest(%(users)s::uuid[]) u(id)
cross join lateral (
    select p.* from participants p where p.conversation_id = %(conversation)s::uuid and p.user_id = u.id limit 1
) p
cross join lateral (
    select m.* from messages m
    where m.conversation_id = p.conversation_id and m.seq > %(after)s and m.seq <= %(upto)s and m.seq > p.joined_seq
      and m.sender_id <> p.user_id and m.created > p.joined and not m.is_silent
) m
where not exists (
    select from hidden h where h.user_id = p.user_id and h.conversation_id = p.conversation_id and h.seq = m.seq
);

-- name: current_participants
-- Who gets the messages of a conversation now, each from which one on.
select p.user_id, p.joined_seq from participants p where p.conversation_id = %(conversation)s::uuid;

-- name: typing_recipients
-- See typing_to() in functions/.
select typing_to(%(conversation)s::uuid, %(user)s::uuid);

-- name: forget_temp_ids
-- Keys of sends that are so old that their retries are refused by the time in their temp_id: a batch of them, from where the
-- last one ended. One row: how many were looked at; none if somebody else is at it. A day before and after: a client's
-- clock is not ours.
with oldest as (
    -- Locked, its newest version is read: who waits in between does not begin where the last one began.
    select p.upto from progress p where p.task = 'forget_temp_ids' for update skip locked
), batch as (
    select s.sender_id, s.temp_id, s.created from sends s
    where s.created > (select upto from oldest) and s.created < now() - make_interval(days => %(days)s + 2)
    order by s.created limit %(limit)s
), whole as (
    -- Rows of the same moment as the last one: the next batch begins after it.
    select s.sender_id, s.temp_id, s.created from sends s
    where s.created > (select upto from oldest) and s.created <= (select max(b.created) from batch b)
), gone as (
    delete from sends s using whole w
    where s.sender_id = w.sender_id and s.temp_id = w.temp_id
      and temp_id_ms(s.temp_id) <= extract(epoch from s.created) * 1000 + 86400000
), moved as (
    update progress p set upto = (select max(w.created) from whole w)
    where p.task = 'forget_temp_ids' and exists (select from whole)
)
select count(*) from whole;
