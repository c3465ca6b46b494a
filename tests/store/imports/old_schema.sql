-- The tables of the service before this one, as far as an import meets them. auth.users has the columns of Supabase's
-- auth that say who may log in.
create schema auth;
create table auth.users (
    instance_id uuid,
    id uuid primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text,
    banned_until timestamptz,
    is_sso_user boolean not null default false,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);

create table users (
    id uuid primary key default gen_random_uuid(),
    username text not null unique,
    display_name text,
    avatar_url text,
    is_online boolean not null default false,
    last_seen_at timestamptz,
    created_at timestamptz not null default now()
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
    last_read_at timestamptz,
    joined_at timestamptz not null default now(),
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
create index messages_by_time on messages (conversation_id, created_at desc);
create table message_receipts (
    id uuid primary key default gen_random_uuid(),
    message_id uuid not null references messages on delete cascade,
    user_id uuid not null references users on delete cascade,
    status text not null,
    read_at timestamptz
);
create unique index message_receipts_once on message_receipts (message_id, user_id);
create table attachments (
    id uuid primary key default gen_random_uuid(),
    message_id uuid not null references messages on delete cascade,
    r2_key text not null,
    file_name text,
    file_size bigint,
    mime_type text,
    thumbnail_r2_key text
);
create index attachments_by_message on attachments (message_id);
create table contacts (
    user_id uuid not null references users on delete cascade,
    contact_user_id uuid not null references users on delete cascade,
    primary key (user_id, contact_user_id)
);
