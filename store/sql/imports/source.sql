-- name: begin
-- Statements that only read, of one snapshot, however long they take. Without row security a policy hides no rows: the
-- query fails instead.
begin transaction isolation level repeatable read, read only;
set local row_security = off;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;

-- name: identity
-- What tells this database from others.
select d.datname || '/' || d.oid || '/' ||
       case when has_function_privilege('pg_control_system()', 'execute')
            then (select s.system_identifier::text from pg_control_system() s) else '' end
from pg_database d where d.datname = current_database();

-- name: columns
-- The columns that an import reads.
select c.table_schema || '.' || c.table_name, c.column_name
from information_schema.columns c
where (c.table_schema, c.table_name) in (
    ('auth', 'users'), ('public', 'users'), ('public', 'conversations'), ('public', 'conversation_participants'),
    ('public', 'messages'), ('public', 'message_receipts'), ('public', 'attachments'), ('public', 'contacts'));

-- name: users
-- Accounts and profiles. Times that no clock shows are bounded.
select coalesce(u.id, a.id), coalesce(u.username, a.raw_user_meta_data ->> 'username'),
       coalesce(u.display_name, a.raw_user_meta_data ->> 'display_name'), u.avatar_url,
       case when u.last_seen_at between '1970-01-01' and now() then u.last_seen_at end,
       least(greatest(coalesce(u.created_at, a.created_at, '1970-01-01'), '1970-01-01'), now()), u.id is not null,
       a.id is not null, a.email, a.encrypted_password,
       case when a.email_confirmed_at is not null then least(greatest(a.email_confirmed_at, '1970-01-01'), now()) end,
       a.banned_until, case when a.deleted_at is not null then least(greatest(a.deleted_at, '1970-01-01'), now()) end,
       hashtextextended(row(u.username, u.display_name, a.raw_user_meta_data ->> 'username',
           a.raw_user_meta_data ->> 'display_name', a.id is not null, a.email, a.encrypted_password,
           a.email_confirmed_at, a.banned_until > now(), a.deleted_at)::text, 0)
from public.users u full join auth.users a on a.id = u.id

-- name: conversations
select c.id, c.type, c.name, c.avatar_url, least(greatest(coalesce(c.created_at, '1970-01-01'), '1970-01-01'), now())
from public.conversations c

-- name: participants
select p.conversation_id, p.user_id, p.last_read_at, p.joined_at, to_jsonb(p) ->> 'role'
from public.conversation_participants p

-- name: contacts
select k.user_id, k.contact_user_id from public.contacts k

-- name: attachments
select a.id, a.message_id, m.conversation_id, a.r2_key, a.file_size, a.mime_type, a.thumbnail_r2_key
from public.attachments a left join public.messages m on m.id = a.message_id

-- name: marks
-- For each user and conversation the last message with a receipt, and the last one that is read: the greatest of texts
-- that sort like (created_at, id). Postgres has no maximum of rows.
select g.conversation_id, g.user_id, substr(g.delivered, 21), substr(g.read, 21)
from (
    select m.conversation_id, r.user_id, max(m.position) as delivered,
           max(m.position) filter (where r.status = 'read' or r.read_at is not null) as read
    from public.message_receipts r
    join (
        select m.id, m.conversation_id, (lpad(((extract(epoch from
                   least(greatest(coalesce(m.created_at, '1970-01-01'), '1970-01-01'), now())
               ) * 1000000)::bigint)::text, 20, '0') || m.id::text) collate "C" as position
        from public.messages m
    ) m on m.id = r.message_id
    where r.status in ('delivered', 'read') or r.read_at is not null
    group by m.conversation_id, r.user_id
) g

-- name: listing
-- Each message, with a number that changes when anything changes that an import takes.
select m.id, hashtextextended(row(m.conversation_id, m.sender_id, m.encrypted_content, m.content_type, m.nonce,
                                  m.ephemeral_public_key, m.created_at, m.deleted_at)::text, 0)
from public.messages m

-- name: messages
-- The messages with these ids, and the reason why the content of one of them stays there. Columns in braces are limits.
select m.id, m.conversation_id, m.sender_id,
       least(greatest(coalesce(m.created_at, '1970-01-01'), '1970-01-01'), now()),
       (m.created_at between '1970-01-01' and now()) is not true,
       case when m.deleted_at is not null then least(greatest(m.deleted_at, '1970-01-01'), now()) end,
       w.reason, w.detail, case when w.reason is null then m.content_type end,
       case when w.reason is null then m.encrypted_content end, case when w.reason is null then m.nonce end,
       case when w.reason is null then m.ephemeral_public_key end,
       hashtextextended(row(m.conversation_id, m.sender_id, m.encrypted_content, m.content_type, m.nonce,
                            m.ephemeral_public_key, m.created_at, m.deleted_at)::text, 0)
from public.messages m
cross join lateral (
    select case when m.encrypted_content is null then 'content_missing'
                when s.content > {content} then 'content_too_long'
                when s.content_type > {content_type} then 'content_type_too_long'
                when s.nonce > {nonce} then 'nonce_too_long'
                when s.key > {key} then 'key_too_long' end,
           case when m.encrypted_content is not null then s.content || ' bytes' end
    from (select octet_length(m.encrypted_content) as content, octet_length(m.content_type) as content_type,
                 octet_length(m.nonce) as nonce, octet_length(m.ephemeral_public_key) as key) s
) w(reason, detail)
where m.id = any('{ids}'::uuid[])
