-- name: send
-- A batch of sends in one transaction; see send_batch() in functions/.
select n, outcome, seq, id, created, device, quiet_count, recipients_version, participant_ids,
       devices_version, refused_for, control_seq
from send_batch(%(lock_ms)s, %(conversations)s, %(conversation)s, %(known_version)s, %(id)s, %(sender)s, %(temp_id)s,
                %(digest)s, %(content_type)s, %(content)s, %(nonce)s, %(ephemeral_public_key)s, %(reply_to)s,
                %(attachments)s, %(thumbnail)s, %(device)s, %(is_quiet)s, %(devices_version)s,
                %(envelopes)s, %(envelope_devices)s, %(envelope_ends)s, %(envelope_of)s, %(envelope_upto)s, %(follows)s);

-- name: sent_before
-- The first answers to old sends, where they are still known.
select i.n, s.seq, s.message_id, (extract(epoch from s.created) * 1000000)::bigint,
       m.device_id, m.quiet_count,
       s.digest = i.digest and s.conversation_id = i.conversation_id
from unnest(%(sender)s::uuid[], %(temp_id)s::uuid[], %(conversation)s::uuid[], %(digest)s::bytea[])
    with ordinality as i(sender_id, temp_id, conversation_id, digest, n)
join sends s on s.sender_id = i.sender_id and s.temp_id = i.temp_id
left join messages m on m.conversation_id = s.conversation_id and m.seq = s.seq;

-- name: history_before
-- A page of history, newest first. One row with nulls: the user takes part, and the page is empty. fits: the message is
-- within the bytes of a page (message_bytes), or the first of the page; others come without content
-- and thumbnail.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.attachments, case when m.fits then m.thumbnail end, m.temp_id, m.device_id, m.is_quiet,
       nullif(m.quiet_count, 0), m.is_gone, m.deleted_by, m.has_envelopes, m.follows,
       floor_of(c, p) + 1, m.fits
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    select page.*, row_number() over onward = 1
                   or coalesce(sum(page.size) over onward <= %(bytes)s::bigint, true) as fits
    from (
        select m.* from readable_messages(c.id, p.user_id, floor_of(c, p)) m where m.seq < %(before)s order by m.seq desc limit %(limit)s
    ) page
    window onward as (order by page.seq desc)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq desc;

-- name: history_after
-- A page of history, oldest first; otherwise like history_before.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.attachments, case when m.fits then m.thumbnail end, m.temp_id, m.device_id, m.is_quiet,
       nullif(m.quiet_count, 0), m.is_gone, m.deleted_by, m.has_envelopes, m.follows,
       floor_of(c, p) + 1, m.fits
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    select page.*, row_number() over onward = 1
                   or coalesce(sum(page.size) over onward <= %(bytes)s::bigint, true) as fits
    from (
        select m.* from readable_messages(c.id, p.user_id, floor_of(c, p)) m where m.seq > %(after)s and m.seq < %(before)s
        order by m.seq limit %(limit)s
    ) page
    window onward as (order by page.seq)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq;

-- name: history_around
-- Some messages up to a seq and some after it, oldest first. One row with nulls: the user takes part, and there is no
-- message. fits: like history_before; those nearest to the seq fit first.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to, m.attachments,
       case when m.fits then m.thumbnail end, m.temp_id, m.device_id, m.is_quiet,
       nullif(m.quiet_count, 0), m.is_gone, m.deleted_by, m.has_envelopes, m.follows, m.fits
from participants p
join conversations c on c.id = p.conversation_id
left join lateral (
    select page.*, row_number() over outward = 1
                   or coalesce(sum(page.size) over outward <= %(bytes)s::bigint, true) as fits
    from (
        select m.* from (
            (select * from readable_messages(c.id, p.user_id, floor_of(c, p)) m where m.seq <= %(around)s order by m.seq desc limit %(older)s)
            union all
            (select * from readable_messages(c.id, p.user_id, floor_of(c, p)) m where m.seq > %(around)s order by m.seq limit %(newer)s)
        ) m
    ) page
    window outward as (order by abs(page.seq - %(around)s), page.seq)
) m on true
where p.conversation_id = %(conversation)s::uuid and p.user_id = %(user)s::uuid
order by m.seq;

-- name: messages_between
-- The messages of a conversation above one seq and up to another, oldest first, for a node that missed them. With each:
-- which of some users are told it, and which are told a tombstone alone. The caller passes each temp_id to devices of the
-- sender alone. Also messages for none of these users: the caller needs their seqs.
select m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type, m.content, m.nonce,
       m.ephemeral_public_key, nullif(m.revision, 0), (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to,
       m.attachments, m.thumbnail, m.temp_id, m.device_id, m.is_quiet,
       nullif(m.quiet_count, 0), m.deleted is not null, m.deleted_by, m.has_envelopes, m.follows,
       array(select h.user_id from holders_of(c, m) h where h.user_id = any(%(users)s::uuid[])),
       array(select h.user_id from hiders_of(c, m) h where h.user_id = any(%(users)s::uuid[]))
from conversations c
join messages m on m.conversation_id = c.id and m.seq > %(after)s and m.seq <= %(upto)s
where c.id = %(conversation)s::uuid
order by m.seq limit %(limit)s;

-- name: active_conversations
-- The conversations of some users with a message in the last ago_s seconds, for a node that may have missed some: the
-- last seq, the last seq from before that time (at or below it no message is missing), and the participants.
select c.id, c.last_seq,
       coalesce((select m.seq from messages m
           where m.conversation_id = c.id and m.created < clock_timestamp() - make_interval(secs => %(ago_s)s)
                 order by m.seq desc limit 1), c.floor_seq),
       array(select p.user_id from participants p where p.conversation_id = c.id order by p.user_id)
from conversations c
where greatest(c.active_at, c.last_quiet_at) >= clock_timestamp() - make_interval(secs => %(ago_s)s)
  and c.id in (select p.conversation_id from participants p where p.user_id = any(%(users)s::uuid[]));

-- name: expected_deliveries
-- The messages above one seq and up to another that some users should have been pushed: user, seq, and creation time.
-- Messages from before the user joined, and own messages, are left out.
select p.user_id, m.seq, (extract(epoch from m.created) * 1000000)::bigint
from conversations c
join messages m on m.conversation_id = c.id and m.seq > %(after)s and m.seq <= %(upto)s
cross join lateral holders_of(c, m) p
where c.id = %(conversation)s::uuid and p.user_id = any(%(users)s::uuid[]) and p.user_id <> m.sender_id
  and p.joined < m.created;

-- name: current_participants
-- The users who take part in a conversation.
select p.user_id from participants p where p.conversation_id = %(conversation)s::uuid;

-- name: typing_recipients
-- See typing_to() in functions/.
select typing_to(%(conversation)s::uuid, %(user)s::uuid);

-- name: forget_temp_ids
-- Deletes rows of sends that are so old that retries are refused by the time in their temp_id, a batch at a time, from
-- where the last batch ended. One row: how many were looked at; 0 also if another transaction does it. A day is added
-- on both sides, since a client's clock may be wrong.
with oldest as (
    -- The lock reads the newest version: a transaction that waited does not begin where the last one began.
    select p.upto from progress p where p.task = 'forget_temp_ids' for update skip locked
), batch as (
    select s.sender_id, s.temp_id, s.created from sends s
    where s.created > (select upto from oldest) and s.created < now() - make_interval(days => %(days)s + 2)
    order by s.created limit %(limit)s
), whole as (
    -- With all rows of the same moment as the last one, since the next batch begins after it.
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
