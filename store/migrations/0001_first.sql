-- The first schema: accounts, conversations, messages, what must follow from a commit.
-- Hot tables (conversations, participants) leave room in each page, so that what a send or a mark moves is updated in
-- place (HOT): no index may name a column that they move (last_seq, active_at, *_seq).

create table users (
    id uuid primary key,
    username text not null check (username ~ '^[a-z0-9][a-z0-9_.-]{0,31}$'),
    password_hash text not null,
    created timestamptz not null default clock_timestamp(),
    constraint users_username unique (username)
);

create table devices (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    token_hash bytea not null check (length(token_hash) = 32),
    created timestamptz not null default clock_timestamp(),
    revoked timestamptz,
    constraint devices_token unique (token_hash)
);
create index devices_user on devices (user_id);

create table conversations (
    id uuid primary key,
    kind text not null check (kind in ('direct', 'group')),
    name text,
    created timestamptz not null default clock_timestamp(),
    -- Two users have one direct conversation: its key is their ids, the lower first.
    direct_low uuid references users,
    direct_high uuid references users,
    last_seq bigint not null default 0 check (last_seq >= 0),
    active_at timestamptz not null default clock_timestamp(),
    members_version bigint not null default 1,
    constraint conversations_direct unique (direct_low, direct_high),
    check ((kind = 'direct') = (direct_low is not null)),
    check ((direct_low is null) = (direct_high is null)),
    check (direct_low < direct_high),
    check ((kind = 'group') = (name is not null))
) with (fillfactor = 50);

create table participants (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    joined_seq bigint not null default 0,
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    primary key (conversation_id, user_id)
) with (fillfactor = 50);
create index participants_user on participants (user_id);

-- messages, sends and outbox are written by send_messages() alone, which has locked the conversation and found the
-- participant; a foreign key would look up the same rows again, once for each message.
create table messages (
    conversation_id uuid not null,
    seq bigint not null,
    id uuid not null,
    sender_id uuid not null,
    created timestamptz not null,
    content_type text not null,
    content bytea not null,
    nonce bytea,
    ephemeral_public_key bytea,
    primary key (conversation_id, seq)
);

-- Idempotency keys: what a retry of the same temp_id is answered with, and what it must be equal to.
create table sends (
    sender_id uuid not null,
    temp_id uuid not null,
    conversation_id uuid not null,
    digest bytea not null,
    seq bigint not null,
    message_id uuid not null,
    created timestamptz not null,
    constraint sends_temp_id primary key (sender_id, temp_id)
);

-- What must follow from a commit. A row of task 'message' is appended by each message's own commit. At the end of the
-- debounce window it becomes, in one transaction, a row of task 'offline_notice' for each recipient whose devices have
-- not marked it delivered; that row goes when its job has ended.
create table outbox (
    id bigint generated always as identity primary key,
    task text not null default 'message',
    conversation_id uuid,
    seq bigint,
    user_id uuid,
    created timestamptz not null default clock_timestamp(),
    due timestamptz,
    version int not null default 1,
    attempt int not null default 0,
    check (task = 'message' and conversation_id is not null and seq is not null
        or task = 'offline_notice' and user_id is not null and due is not null)
);
create unique index outbox_offline_notice on outbox (user_id) where task = 'offline_notice';
create index outbox_due on outbox (due) where task = 'offline_notice';

-- What was given up: an operator can see it and give it another try.
create table dead_jobs (
    id bigint primary key,
    task text not null,
    user_id uuid,
    attempts int not null,
    reason text not null,
    died timestamptz not null default clock_timestamp()
);

-- A batch of one; see send_messages(), which calls it and says what the columns mean.
create function send_message(
    p_conversation uuid, p_known_version bigint, p_id uuid, p_sender uuid, p_temp_id uuid, p_digest bytea,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    out outcome text, out seq bigint, out id uuid, out created bigint, out members_version bigint, out members uuid[]
) language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    conversation record;
    twin record;
    stamp timestamptz;
begin
    select c.last_seq, c.active_at, c.members_version into conversation
    from conversations c where c.id = p_conversation for no key update;
    members_version := conversation.members_version;
    if p_known_version <> members_version then
        members := (select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation);
    end if;
    select s.seq, s.message_id, s.created, s.digest = p_digest and s.conversation_id = p_conversation as same into twin
    from sends s where s.sender_id = p_sender and s.temp_id = p_temp_id;
    if found then
        outcome := case when twin.same then 'again' else 'conflict' end;
        seq := twin.seq;
        id := twin.message_id;
        created := (extract(epoch from twin.created) * 1000000)::bigint;
        return;
    end if;
    seq := conversation.last_seq + 1;
    -- Who writes has read.
    update participants p
    set read_seq = greatest(p.read_seq, send_message.seq), delivered_seq = greatest(p.delivered_seq, send_message.seq)
    where p.conversation_id = p_conversation and p.user_id = p_sender;
    if not found then
        outcome := 'stranger';
        seq := null;
        return;
    end if;
    stamp := greatest(clock_timestamp(), conversation.active_at);
    insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                          ephemeral_public_key)
    values (p_conversation, send_message.seq, p_id, p_sender, stamp, p_content_type, p_content, p_nonce,
            p_ephemeral_public_key);
    insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    values (p_sender, p_temp_id, p_conversation, p_digest, send_message.seq, p_id, stamp);
    insert into outbox (conversation_id, seq, created) values (p_conversation, send_message.seq, stamp);
    update conversations c set last_seq = send_message.seq, active_at = stamp where c.id = p_conversation;
    outcome := 'sent';
    id := p_id;
    created := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- A batch of sends, one row of each argument per send: one call, one transaction, one round trip.
--
-- outcome: 'sent' (new), 'again' (a retry of the same send: the first answer), 'conflict' (the temp_id was used for
-- another message), 'stranger' (no participant, or no such conversation). members is the conversation's participants,
-- for the rows whose known_version is neither null nor current.
create function send_messages(
    p_conversation uuid[], p_known_version bigint[], p_id uuid[], p_sender uuid[], p_temp_id uuid[], p_digest bytea[],
    p_content_type text[], p_content bytea[], p_nonce bytea[], p_ephemeral_public_key bytea[]
) returns table (
    n bigint, outcome text, seq bigint, id uuid, created bigint, members_version bigint, members uuid[]
) language plpgsql set plan_cache_mode = force_generic_plan as $$
-- Planning the statement below costs more than running it, and its arguments do not change the plan; see
-- Connection.query in store/postgres.py for how a plan that was made while the tables were small is got rid of.
declare
    stamp timestamptz;
begin
    if cardinality(p_conversation) = 1 then
        -- The same as below, one row at a time: under light load most batches have one, and setting up the statement
        -- below costs more than these together.
        return query select 1::bigint, o.* from send_message(
            p_conversation[1], p_known_version[1], p_id[1], p_sender[1], p_temp_id[1], p_digest[1], p_content_type[1],
            p_content[1], p_nonce[1], p_ephemeral_public_key[1]) o;
        return;
    end if;
    -- In id order, so that batches of two nodes never wait for each other in a circle.
    perform 1 from conversations c where c.id = any(p_conversation) order by c.id for no key update;
    stamp := clock_timestamp();
    -- A later statement has a new snapshot: what committed while we waited for the locks is seen, twins included.
    return query
    with input as (
        select * from unnest(p_conversation, p_known_version, p_id, p_sender, p_temp_id, p_digest, p_content_type,
                             p_content, p_nonce, p_ephemeral_public_key)
            with ordinality as i(conversation_id, known_version, id, sender_id, temp_id, digest, content_type,
                                 content, nonce, ephemeral_public_key, n)
    ), twin as (
        select i.n, s.seq, s.message_id, s.created,
               s.digest = i.digest and s.conversation_id = i.conversation_id as same
        from input i join sends s on s.sender_id = i.sender_id and s.temp_id = i.temp_id
    ), numbered as (
        select i.*, c.last_seq + row_number() over (partition by i.conversation_id order by i.n) as seq,
               greatest(stamp, c.active_at) as created
        from input i
        join conversations c on c.id = i.conversation_id
        join participants p on p.conversation_id = i.conversation_id and p.user_id = i.sender_id
        where not exists (select from twin t where t.n = i.n)
    ), to_messages as (
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                              ephemeral_public_key)
        select b.conversation_id, b.seq, b.id, b.sender_id, b.created, b.content_type, b.content, b.nonce,
               b.ephemeral_public_key
        from numbered b
    ), to_sends as (
        -- In key order, so that two nodes that retry the same sends do not deadlock.
        insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
        select b.sender_id, b.temp_id, b.conversation_id, b.digest, b.seq, b.id, b.created
        from numbered b order by b.sender_id, b.temp_id
    ), to_outbox as (
        insert into outbox (conversation_id, seq, created) select b.conversation_id, b.seq, b.created from numbered b
    ), moved as (
        update conversations c set last_seq = top.seq, active_at = top.created
        from (select b.conversation_id, max(b.seq) as seq, max(b.created) as created
              from numbered b group by b.conversation_id) top
        where c.id = top.conversation_id
    ), own_marks as (
        -- Who writes has read: so own messages never lie above the own mark, and unread counts need no counting.
        update participants p
        set read_seq = greatest(p.read_seq, top.seq), delivered_seq = greatest(p.delivered_seq, top.seq)
        from (select locked.conversation_id, locked.user_id, top.seq
              from (select b.conversation_id, b.sender_id, max(b.seq) as seq
                    from numbered b group by b.conversation_id, b.sender_id) top
              join participants locked on locked.conversation_id = top.conversation_id
                                      and locked.user_id = top.sender_id
              -- In key order, as mark_delivered locks them: neither deadlocks with the other.
              order by locked.conversation_id, locked.user_id for no key update of locked) top
        where p.conversation_id = top.conversation_id and p.user_id = top.user_id
    )
    select i.n,
           case when b.n is not null then 'sent' when t.same then 'again' when t.n is not null then 'conflict'
                else 'stranger' end,
           coalesce(b.seq, t.seq), coalesce(b.id, t.message_id),
           (extract(epoch from coalesce(b.created, t.created)) * 1000000)::bigint,
           c.members_version,
           case when i.known_version <> c.members_version then
               (select array_agg(p.user_id) from participants p where p.conversation_id = i.conversation_id) end
    from input i
    left join numbered b on b.n = i.n
    left join twin t on t.n = i.n
    left join conversations c on c.id = i.conversation_id
    order by i.n;
end $$;
