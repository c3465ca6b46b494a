-- The data of an export, a file for all kinds: each query returns a page of lines of JSON, each with its key, in the order
-- of keys, after the key of the page before. Times are texts of RFC 3339, bytes are base64 (RFC 4648, section 4).

-- name: account
-- The user's row, but for the hash of the password.
select 'account', jsonb_build_object(
    'kind', 'account', 'user', u.id, 'username', u.username, 'display_name', u.display_name, 'created', u.created,
    'avatar', u.avatar, 'gives_receipts', u.gives_receipts, 'shows_presence', u.shows_presence,
    'messages_from', u.messages_from, 'groups_from', u.groups_from, 'last_seen', l.at, 'starts', s.at,
    'attachment_bytes', g.stored_bytes, 'declared_on', g.day, 'declared_bytes', g.declared_bytes)::text
from users u left join last_seen l on l.user_id = u.id left join starts s on s.user_id = u.id
left join attachment_usage g on g.user_id = u.id
where u.id = %(user)s::uuid and %(after)s::text < 'account' limit %(limit)s;

-- name: external_identity
-- What the external issuer calls the user, who logs in with its tokens.
select 'external_identity', jsonb_build_object(
    'kind', 'external_identity', 'issuer', x.issuer, 'subject', x.subject, 'created', x.created)::text
from external_identities x where x.user_id = %(user)s::uuid and %(after)s::text < 'external_identity' limit %(limit)s;

-- name: email
-- The e-mail address, and the mails that the user wants.
select 'email', jsonb_build_object(
    'kind', 'email', 'address', e.address, 'verified', e.verified, 'wants_digest', e.wants_digest,
    'wants_device_notice', e.wants_device_notice, 'digest_hour', e.digest_hour, 'zone', e.zone,
    'last_digest', e.last_digest)::text
from emails e where e.user_id = %(user)s::uuid and %(after)s::text < 'email' limit %(limit)s;

-- name: quiet_hours
-- When the user wants no notices.
select 'quiet_hours', jsonb_build_object(
    'kind', 'quiet_hours', 'from_minute', q.from_minute, 'until_minute', q.until_minute, 'zone', q.zone)::text
from quiet_hours q where q.user_id = %(user)s::uuid and %(after)s::text < 'quiet_hours' limit %(limit)s;

-- name: devices
-- The devices with the identities that they have published and the numbers of their keys, but for hashes of tokens.
select d.id::text, jsonb_build_object(
    'kind', 'device', 'device', d.id, 'name', d.name, 'created', d.created, 'expires', d.expires, 'revoked', d.revoked,
    'identity', translate(encode(d.identity, 'base64'), E'\n', ''), 'identity_revision', d.identity_revision,
    'keys', (
        select jsonb_agg(jsonb_build_object(
            'type', p.kind, 'highest_number', p.highest_number, 'last_resort_number', p.last_resort_number,
            'unclaimed', p.stored - p.taken
        ) order by p.kind)
        from key_pools p where p.device_id = d.id)
)::text
from devices d where d.user_id = %(user)s::uuid and d.id::text > %(after)s order by d.id::text limit %(limit)s;

-- name: notifiers
-- The notifiers, but for their secrets, with the last notice of each.
select n.id::text, jsonb_build_object(
    'kind', 'notifier', 'notifier', n.id, 'device', n.device_id, 'type', n.kind,
    'target', n.target - array['secret', 'auth', 'p256dh'],
    'created', n.created, 'failing_since', n.failing_since, 'last_error', n.last_error,
    'last_notice', s.told, 'last_notice_unread', s.unread)::text
from notifiers n left join notices s on s.user_id = n.user_id and s.notifier_id = n.id
where n.user_id = %(user)s::uuid and n.id::text > %(after)s order by n.id::text limit %(limit)s;

-- name: contacts
-- The contacts, and the users whom the user blocks, by the names that they have now.
select k.contact_id::text, jsonb_build_object(
    'kind', 'contact', 'user', k.contact_id, 'username', u.username, 'is_contact', k.is_contact,
    'is_blocked', k.is_blocked, 'created', k.created)::text
from (
    select * from contacts k
    where k.user_id = %(user)s::uuid
      and k.contact_id > coalesce(nullif(%(after)s::text, '')::uuid, '00000000-0000-0000-0000-000000000000')
    order by k.contact_id limit %(limit)s
) k
cross join lateral (select u.username from users u where u.id = k.contact_id limit 1) u
order by k.contact_id;

-- name: security_events
-- The events of the security of the account.
select lpad(e.id::text, 20, '0'), jsonb_build_object(
    'kind', 'security_event', 'event', e.kind, 'at', e.at, 'actor', e.actor, 'device', e.device_id,
    'network', e.network, 'client', e.client, 'detail', e.detail, 'times', e.times, 'last', e.last)::text
from security_events e
where e.user_id = %(user)s::uuid and e.id > coalesce(nullif(%(after)s::text, '')::bigint, 0)
order by e.id limit %(limit)s;

-- name: activity
-- The days (UTC) on which a device of the user was connected. By the index, one look-up for each day.
select a.day::text, jsonb_build_object('kind', 'active_day', 'day', a.day)::text
from activity a
where a.user_id = %(user)s::uuid and a.day::text > %(after)s and a.day = any(array(
    select d::date from generate_series((select min(day) from activity), (select max(day) from activity), '1 day') d
))
order by a.day limit %(limit)s;

-- name: uploads
-- Files that no message has taken: uploads, and avatars; is_shown: the user, or a group, has it as its avatar now.
select a.id::text, jsonb_build_object(
    'kind', 'upload', 'attachment', a.id, 'object', a.object_key, 'size_bytes', a.size_bytes,
    'media_type', a.media_type, 'thumbnail_of', a.thumbnail_of, 'is_avatar', a.is_avatar, 'is_shown', a.is_shown,
    'completed', a.completed, 'created', a.created)::text
from attachments a
where a.user_id = %(user)s::uuid and a.conversation_id is null and a.orphaned is null and a.id::text > %(after)s
order by a.id::text limit %(limit)s;

-- name: conversations
-- The conversations where the user takes part, or has taken part, with the user's own settings and marks, and the
-- participants by the names that they have now.
select t.id::text, jsonb_build_object(
    'kind', 'conversation', 'conversation', c.id, 'type', c.kind, 'name', c.name, 'avatar', c.avatar,
    'created', c.created,
    'lifetime_s', c.lifetime_s, 'is_participant', p.user_id is not null, 'role', p.role, 'joined', p.joined,
    'muted_until', p.muted_until, 'asked_by', p.asked_by,
    'delivered_seq', greatest(p.delivered_seq, p.private_delivered_seq, d.delivered_seq),
    'read_seq', greatest(p.read_seq, p.private_read_seq, d.read_seq, d.private_read_seq),
    'departed', d.departed, 'removed_by', d.removed_by, 'last_seq', coalesce(d.left_seq, c.last_seq),
    'participants', case when p.user_id is not null then (
        select jsonb_agg(jsonb_build_object('user', o.user_id, 'username', u.username, 'role', o.role) order by o.user_id)
        from shown_participants o
        cross join lateral (select u.username from users u where u.id = o.user_id limit 1) u
        where o.conversation_id = c.id) end)::text
from (
    (select p.conversation_id as id from participants p
     where p.user_id = %(user)s::uuid
       and p.conversation_id > coalesce(nullif(%(after)s::text, '')::uuid, '00000000-0000-0000-0000-000000000000')
     order by p.conversation_id limit %(limit)s)
    union
    (select d.conversation_id from departures d
     where d.user_id = %(user)s::uuid
       and d.conversation_id > coalesce(nullif(%(after)s::text, '')::uuid, '00000000-0000-0000-0000-000000000000')
     order by d.conversation_id limit %(limit)s)
) t
-- The limit makes Postgres look up each by its key: without statistics it would read the whole table.
cross join lateral (select * from conversations c where c.id = t.id limit 1) c
left join participants p on p.conversation_id = t.id and p.user_id = %(user)s::uuid
left join departures d on d.conversation_id = t.id and d.user_id = %(user)s::uuid
order by t.id limit %(limit)s;

-- name: messages
-- The messages of a conversation that the user may read, in some of its seqs; or those alone that the user has sent, if
-- the user has left. With their attachments, and the thumbnails of these. Content is as the server has it: encrypted. No row: the conversation ends
-- before. The key of the last row, which has no line, says how far the page goes.
with place as (
    select c as conversation, p as participant, p.user_id is not null as takes_part,
           least(%(after)s::bigint + %(limit)s::bigint, c.last_seq) as upto
    from conversations c
    left join participants p on p.conversation_id = c.id and p.user_id = %(user)s::uuid
    where c.id = %(conversation)s::uuid and c.last_seq > %(after)s::bigint
), found as (
    select m.seq, m.id, m.sender_id, m.device_id, m.is_quiet, m.created, m.content_type, m.content, m.nonce, m.ephemeral_public_key,
           m.revision, m.edited, m.reply_to, m.attachments, m.thumbnail, m.has_envelopes, m.follows,
           m.is_gone
    from place l cross join lateral readable_messages(
        (l.conversation).id, (l.participant).user_id, floor_of(l.conversation, l.participant)
    ) m
    where l.takes_part and m.seq > %(after)s::bigint and m.seq <= l.upto
    union all
    select m.seq, m.id, m.sender_id, m.device_id, m.is_quiet, m.created, m.content_type, m.content, m.nonce, m.ephemeral_public_key,
           m.revision, m.edited, m.reply_to, m.attachments, m.thumbnail, m.has_envelopes, m.follows,
           m.deleted is not null
    from place l join messages m on m.conversation_id = %(conversation)s::uuid
    where not l.takes_part and m.sender_id = %(user)s::uuid and m.seq > %(after)s::bigint and m.seq <= l.upto
)
select f.seq, jsonb_build_object(
    'kind', 'message', 'conversation', %(conversation)s::uuid, 'seq', f.seq, 'message', f.id, 'sender', f.sender_id,
    'device', case when not f.is_gone then f.device_id end, 'is_quiet', f.is_quiet,
    'has_envelopes', f.has_envelopes, 'follows', f.follows,
    'created', f.created, 'is_deleted', f.is_gone, 'content_type', case when not f.is_gone then f.content_type end,
    'content', case when not f.is_gone then translate(encode(f.content, 'base64'), E'\n', '') end,
    'nonce', translate(encode(f.nonce, 'base64'), E'\n', ''),
    'ephemeral_public_key', translate(encode(f.ephemeral_public_key, 'base64'), E'\n', ''),
    'revision', f.revision, 'edited', f.edited, 'reply_to', f.reply_to,
    'thumbnail', case when not f.is_gone then translate(encode(f.thumbnail, 'base64'), E'\n', '') end,
    'attachments', (
        select jsonb_agg(jsonb_build_object(
            'attachment', a.id, 'object', a.object_key, 'size_bytes', a.size_bytes, 'media_type', a.media_type,
            'thumbnail_of', a.thumbnail_of
        ) order by array_position(f.attachments, coalesce(a.thumbnail_of, a.id)), a.thumbnail_of nulls first)
        from attachments a
        where a.conversation_id = %(conversation)s::uuid and a.seq = f.seq and not f.is_gone))::text
from found f
union all
select l.upto, null from place l
order by 1, 2 nulls last;
