-- name: create
-- The schema `imported`: what an import remembers between its runs, and copies of the source's rows (decision 44).
-- Tables that hold copies are unlogged: the next run makes them anew, and after a crash of Postgres all are empty.
create schema if not exists imported;

-- The database that the rows came from.
create table if not exists imported.source (
    is_only boolean primary key default true check (is_only),
    identity text not null
);

-- What was taken. fingerprint: of the row as it was read last.
create table if not exists imported.users (
    id uuid primary key,
    fingerprint bigint not null
);
-- taken_as: the conversation here. It is another one if two direct conversations of one pair became one.
create table if not exists imported.conversations (
    id uuid primary key,
    taken_as uuid not null
);
create index if not exists conversations_taken_as on imported.conversations (taken_as);
-- is_placed: the beginning of the stay is found among the messages.
create table if not exists imported.participants (
    conversation_id uuid not null,
    user_id uuid not null,
    is_placed boolean not null default false,
    primary key (conversation_id, user_id)
);
create table if not exists imported.contacts (
    user_id uuid not null,
    contact_id uuid not null,
    primary key (user_id, contact_id)
);
create table if not exists imported.attachments (
    id uuid primary key
);
-- conversation_id: of the source. place: the time here, which grows with seq.
create table if not exists imported.messages (
    id uuid primary key,
    conversation_id uuid not null,
    place timestamptz not null,
    seq bigint not null,
    fingerprint bigint not null
);
create index if not exists messages_place on imported.messages (conversation_id, place, seq);

-- What was not taken, or not as it was, and why (store/imports/reasons.py).
create table if not exists imported.notes (
    about text not null,
    reason text not null,
    id text not null,
    detail text,
    primary key (about, reason, id)
);

-- Copies of the source's rows.
create unlogged table if not exists imported.old_users (
    id uuid primary key, username text, display_name text, avatar_url text, last_seen timestamptz,
    created timestamptz not null, has_profile boolean not null, has_login boolean not null, email text,
    password_hash text, confirmed timestamptz, banned_until timestamptz, deleted timestamptz, fingerprint bigint not null
);
create unlogged table if not exists imported.old_conversations (
    id uuid primary key, type text, name text, avatar_url text, created timestamptz not null
);
create unlogged table if not exists imported.old_participants (
    conversation_id uuid, user_id uuid, last_read timestamptz, joined timestamptz, role text
);
create unlogged table if not exists imported.old_contacts (user_id uuid, contact_id uuid);
create unlogged table if not exists imported.old_attachments (
    id uuid primary key, message_id uuid, conversation_id uuid, object_key text, size_bytes bigint, media_type text,
    thumbnail_key text
);
create index if not exists old_attachments_conversation on imported.old_attachments (conversation_id);
-- The last message that each user has received and read, by receipts.
create unlogged table if not exists imported.old_marks (
    conversation_id uuid, user_id uuid, delivered_id uuid, read_id uuid
);
create index if not exists old_marks_conversation on imported.old_marks (conversation_id);
-- The messages of the source, in the order in which it stores them, and those of them that are new or have changed.
create unlogged table if not exists imported.listed (
    n bigint generated always as identity, id uuid, fingerprint bigint
);
create unlogged table if not exists imported.wanted (n bigint primary key, id uuid not null);
-- Messages that are copied, and have no place yet.
create unlogged table if not exists imported.arrivals (
    id uuid primary key, conversation_id uuid, sender_id uuid, created timestamptz not null,
    is_bounded boolean not null, deleted timestamptz, reason text, detail text, content_type text, content text, nonce text,
    ephemeral_public_key text, fingerprint bigint not null
);
create index if not exists arrivals_order on imported.arrivals (conversation_id, created, id);

-- What the rules of this service make of users and titles.
create unlogged table if not exists imported.people (
    id uuid primary key, username text, username_reason text, other_username text not null,
    password_hash text not null, display_name text, email text, notes jsonb not null
);
create unlogged table if not exists imported.titles (id uuid primary key, title text not null, reason text);
-- Participants of the source who are users here, each once.
create unlogged table if not exists imported.current_participants (
    conversation_id uuid, user_id uuid, last_read timestamptz, joined timestamptz, role text,
    primary key (conversation_id, user_id)
);
-- The conversations here that have rows of the source, and about how many rows each has to take.
create unlogged table if not exists imported.due (conversation_id uuid primary key, rows bigint not null);

-- name: identity
-- The source whose rows are here. No row: nothing was taken yet.
select identity from imported.source;

-- name: note_identity
insert into imported.source (identity) values (%(identity)s) on conflict (is_only) do nothing;

-- name: try_lock
-- Whether this session runs the only import.
select pg_try_advisory_lock(%(key)s);

-- name: is_known
-- Whether each conversation of the source that is here was taken by an import that is remembered.
select not exists (
    select from imported.old_conversations o join conversations c on c.id = o.id
    where not exists (select from imported.conversations k where k.id = o.id)
);

-- name: has_lost_participants
-- Whether the source has no participants any longer, although it had some.
select not exists (select from imported.old_participants) and exists (select from imported.participants);

-- name: finish
-- Nothing of the copies is needed any longer.
truncate imported.old_users, imported.old_conversations, imported.old_participants, imported.old_contacts,
    imported.old_attachments, imported.old_marks, imported.listed, imported.wanted, imported.arrivals, imported.people,
    imported.titles, imported.current_participants, imported.due;
