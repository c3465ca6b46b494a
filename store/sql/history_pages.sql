-- name: state
-- The state of a conversation's history as a user sees it; `select` and this come before `version` and `newest`: the
-- floor of the user; the last seq; the transaction that edited a message last or deleted one for everyone; whether the
-- user sees something that others with the same floor do not; and the transactions that added the user, and that wrote
-- what belongs to the user alone.
floor_of(c, me), c.last_seq, c.revised::text::bigint,
c.kind = 'direct' or exists (
    select from hidden h where h.user_id = me.user_id and h.conversation_id = me.conversation_id
), me.added::text::bigint, me.own_marked::text::bigint

-- name: version
-- The state alone.
from participants me join conversations c on c.id = me.conversation_id
where me.conversation_id = %(conversation)s and me.user_id = (select reader.user_id from reader)

-- name: newest
-- The newest messages above a seq, newest first. One row with nulls: there are none. size: message_bytes. fits: the
-- sizes up to the message are within the bytes of a page, or it is the first; others come without content and thumbnail.
m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
case when m.fits then m.content end, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
(extract(epoch from m.edited) * 1000000)::bigint, m.reply_to, m.attachments,
case when m.fits then m.thumbnail end, m.temp_id, m.device_id, m.is_quiet,
nullif(m.quiet_count, 0), m.is_gone, m.deleted_by, m.has_envelopes, m.follows, m.size, m.fits
from participants me
join conversations c on c.id = me.conversation_id
left join lateral (
    select page.*, row_number() over onward = 1 or sum(page.size) over onward <= %(bytes)s as fits
    from (
        select m.* from readable_messages(c.id, me.user_id, floor_of(c, me)) m where m.seq > %(after)s order by m.seq desc limit %(limit)s
    ) page
    window onward as (order by page.seq desc)
) m on true
where me.conversation_id = %(conversation)s and me.user_id = (select reader.user_id from reader)
order by m.seq desc
