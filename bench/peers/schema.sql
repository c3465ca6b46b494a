-- The tables of the service before ours, with the indexes that its improvement plan adds. The benchmarks make them in an empty
-- database; the servers in this folder take them as they are.
create table users (
    id uuid primary key default gen_random_uuid(),
    username text not null unique,
    display_name text,
    avatar_url text,
    is_online boolean not null default false,
    last_seen_at timestamptz,
    created_at timestamptz not null default now()
);
create table contacts (
    user_id uuid not null references users on delete cascade,
    contact_user_id uuid not null references users on delete cascade,
    primary key (user_id, contact_user_id)
);
create table conversations (
    id uuid primary key default gen_random_uuid(),
    type text not null check (type in ('direct', 'group')),
    name text,
    avatar_url text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create table conversation_participants (
    conversation_id uuid not null references conversations on delete cascade,
    user_id uuid not null references users on delete cascade,
    joined_at timestamptz not null default now(),
    last_read_at timestamptz,
    primary key (conversation_id, user_id)
);
create table messages (
    id uuid primary key default gen_random_uuid(),
    conversation_id uuid not null references conversations on delete cascade,
    sender_id uuid not null references users,
    encrypted_content text not null,
    content_type text not null default 'text',
    nonce text,
    ephemeral_public_key text,
    status text not null default 'sent',
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
create table message_receipts (
    message_id uuid not null references messages on delete cascade,
    user_id uuid not null references users on delete cascade,
    status text not null,
    read_at timestamptz,
    primary key (message_id, user_id)
);
create table attachments (
    id uuid primary key default gen_random_uuid(),
    message_id uuid not null references messages on delete cascade,
    r2_key text not null,
    file_name text,
    file_size bigint,
    mime_type text,
    thumbnail_r2_key text
);
create index messages_newest on messages (conversation_id, created_at desc);
create index attachments_of_message on attachments (message_id);
-- From here on: the plan's.
create index messages_of_others on messages (conversation_id, sender_id, created_at desc) where deleted_at is null;
create index participations on conversation_participants (user_id, conversation_id);
create index participations_read on conversation_participants (user_id, last_read_at desc);
