-- Contacts and blocking, roles, leaving, replies, attachments, figures per day; sends that skip what is locked.
-- Every column has a default that holds without rewriting its table, and every function of the release before this one
-- goes on working: it may serve meanwhile.

alter table users
    add column display_name text check (length(display_name) between 1 and 128),
    add column avatar_key text;

-- When a user was online last: apart from users, so that what moves all day is small and updated in place.
create table last_seen (
    user_id uuid primary key references users,
    at timestamptz not null
) with (fillfactor = 50);

-- Whom a user knows. Blocking somebody keeps the row, or makes one.
create table contacts (
    user_id uuid not null references users,
    contact_id uuid not null references users,
    is_blocked boolean not null default false,
    created timestamptz not null default clock_timestamp(),
    primary key (user_id, contact_id),
    check (user_id <> contact_id)
);

alter table conversations
    add column avatar_key text,
    -- Whether who joins later may read what was said before.
    add column joiners_see_all boolean not null default false,
    -- In a direct conversation, whether the one user blocks the other; as in contacts, where a send need not look.
    add column low_blocks boolean not null default false,
    add column high_blocks boolean not null default false;
alter table conversations
    add constraint conversations_blocks check (kind = 'direct' or not low_blocks and not high_blocks) not valid;

alter table participants
    -- Who took part before there were roles has all rights.
    add column role text not null default 'admin' check (role in ('admin', 'member')),
    add column joined timestamptz,
    add column muted_until timestamptz,
    -- Read, but shown to nobody: messages of somebody whom the user blocks, or all where the user gives no receipts.
    add column private_read_seq bigint not null default 0;
alter table participants alter column role set default 'member';
alter table participants alter column joined set default clock_timestamp();
alter table participants
    add constraint participants_marks check (joined_seq >= 0 and 0 <= read_seq and read_seq <= delivered_seq
                                             and private_read_seq >= 0) not valid;

-- Who has left a conversation, or was removed, and not come back. Apart from participants: no query for those who take
-- part can find somebody here by mistake.
create table departures (
    user_id uuid not null references users,
    conversation_id uuid not null references conversations,
    joined_seq bigint not null,
    left_seq bigint not null,
    removed_by uuid references users,
    departed timestamptz not null default clock_timestamp(),
    changed xid8 not null default pg_current_xact_id(),
    primary key (user_id, conversation_id),
    check (joined_seq <= left_seq)
);

alter table messages
    add column reply_to bigint,
    -- Sent to somebody who blocks the sender: for the other one it is a tombstone from the beginning.
    add column is_silent boolean not null default false;
alter table messages
    add constraint messages_numbers check (seq >= 1 and revision >= 0 and reply_to between 1 and seq - 1) not valid,
    add constraint messages_deleted check (deleted is null or content = '' and nonce is null) not valid;

-- A file in the object store: uploaded first, then part of a message.
create table attachments (
    id uuid primary key,
    user_id uuid not null references users,
    object_key text not null,
    file_name text check (length(file_name) between 1 and 255),
    size_bytes bigint not null check (size_bytes between 1 and 5368709120),
    mime_type text not null check (length(mime_type) between 1 and 127),
    thumbnail_key text,
    conversation_id uuid,
    seq bigint,
    created timestamptz not null default clock_timestamp(),
    constraint attachments_object unique (object_key),
    constraint attachments_message foreign key (conversation_id, seq) references messages,
    check ((conversation_id is null) = (seq is null))
);
create index attachments_of_message on attachments (conversation_id, seq) where conversation_id is not null;

-- Figures of one day, such as messages or daily active users; exact once the day is over.
create table analytics (
    day date not null,
    metric text not null,
    value bigint not null,
    primary key (day, metric)
);

-- How far a piece of work that goes on for ever has come.
create table progress (
    task text primary key,
    upto timestamptz not null
);

-- The time in milliseconds that a temp_id holds, if it is a UUID of version 7 (RFC 9562).
create function temp_id_ms(temp_id uuid) returns bigint language sql immutable parallel safe as $$
    select case when get_byte(b, 6) >> 4 = 7 and get_byte(b, 8) >> 6 = 2 then
        (get_byte(b, 0)::bigint << 40) | (get_byte(b, 1)::bigint << 32) | (get_byte(b, 2)::bigint << 24)
        | (get_byte(b, 3)::bigint << 16) | (get_byte(b, 4)::bigint << 8) | get_byte(b, 5)
    end from uuid_send(temp_id) b
$$;

-- A batch of one; see send_batch(), which calls it and says what the columns mean.
create function send_one(
    p_lock_ms int, p_conversation uuid, p_known_version bigint, p_id uuid, p_sender uuid, p_temp_id uuid,
    p_digest bytea, p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea, p_reply_to bigint,
    out outcome text, out seq bigint, out id uuid, out created bigint, out members_version bigint, out members uuid[]
) language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    conversation record;
    twin record;
    floor bigint;
    stamp timestamptz;
    silent boolean;
begin
    if p_lock_ms > 0 then
        select c.last_seq, c.active_at, c.members_version, c.direct_low, c.direct_high, c.low_blocks, c.high_blocks
        into conversation from conversations c where c.id = p_conversation for no key update;
    else
        select c.last_seq, c.active_at, c.members_version, c.direct_low, c.direct_high, c.low_blocks, c.high_blocks
        into conversation from conversations c where c.id = p_conversation for no key update skip locked;
        if not found and exists (select from conversations c where c.id = p_conversation) then
            outcome := 'locked';
            return;
        end if;
    end if;
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
    if p_reply_to is not null then
        select p.joined_seq into floor from participants p
        where p.conversation_id = p_conversation and p.user_id = p_sender;
        if found and (p_reply_to <= floor or p_reply_to > conversation.last_seq) then
            outcome := 'unknown';
            return;
        end if;
    end if;
    seq := conversation.last_seq + 1;
    -- Who writes has read.
    update participants p
    set read_seq = greatest(p.read_seq, send_one.seq), delivered_seq = greatest(p.delivered_seq, send_one.seq)
    where p.conversation_id = p_conversation and p.user_id = p_sender;
    if not found then
        outcome := 'stranger';
        seq := null;
        return;
    end if;
    silent := coalesce(conversation.low_blocks and p_sender = conversation.direct_high
                       or conversation.high_blocks and p_sender = conversation.direct_low, false);
    if silent then
        update participants p set private_read_seq = greatest(p.private_read_seq, send_one.seq)
        where p.conversation_id = p_conversation and p.user_id <> p_sender;
    end if;
    stamp := greatest(clock_timestamp(), conversation.active_at);
    insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                          ephemeral_public_key, reply_to, is_silent)
    values (p_conversation, send_one.seq, p_id, p_sender, stamp, p_content_type, p_content, p_nonce,
            p_ephemeral_public_key, p_reply_to, silent);
    insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    values (p_sender, p_temp_id, p_conversation, p_digest, send_one.seq, p_id, stamp);
    insert into outbox (conversation_id, seq, created) values (p_conversation, send_one.seq, stamp);
    update conversations c set last_seq = send_one.seq, active_at = stamp, changed = pg_current_xact_id()
    where c.id = p_conversation;
    outcome := case when silent then 'silent' else 'sent' end;
    id := p_id;
    created := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- A batch of sends, one row of each argument per send: one call, one transaction, one round trip.
--
-- p_conversations: those of the batch, each once. p_lock_ms: how long to wait for one that somebody else has locked; 0:
-- do not wait, its sends are 'locked'. Other locks are waited for as long, or for 200 ms.
-- outcome: 'sent' (new), 'silent' (new, and its sender is blocked: nobody else is to be told), 'again' (a retry of the
-- same send: the first answer), 'conflict' (the temp_id was used for another message), 'unknown' (no such message to
-- reply to), 'stranger' (no participant, or no such conversation), 'locked' (nothing was done). members is the
-- conversation's participants, for the rows whose known_version is neither null nor current.
create function send_batch(
    p_lock_ms int, p_conversations uuid[],
    p_conversation uuid[], p_known_version bigint[], p_id uuid[], p_sender uuid[], p_temp_id uuid[], p_digest bytea[],
    p_content_type text[], p_content bytea[], p_nonce bytea[], p_ephemeral_public_key bytea[], p_reply_to bigint[]
) returns table (
    n bigint, outcome text, seq bigint, id uuid, created bigint, members_version bigint, members uuid[]
) language plpgsql set plan_cache_mode = force_generic_plan set lock_timeout = '200ms' as $$
-- Planning the statement below costs more than running it, and its arguments do not change the plan; see
-- Connection.query in store/postgres.py for how a plan that was made while the tables were small is got rid of.
declare
    stamp timestamptz;
    held uuid[];
    locked uuid[];
begin
    if p_lock_ms > 0 then
        perform set_config('lock_timeout', p_lock_ms::text, true);
    end if;
    if cardinality(p_conversation) = 1 then
        -- The same as below, one row at a time: under light load most batches have one, and setting up the statement
        -- below costs more than these together.
        return query select 1::bigint, o.* from send_one(
            p_lock_ms, p_conversation[1], p_known_version[1], p_id[1], p_sender[1], p_temp_id[1], p_digest[1],
            p_content_type[1], p_content[1], p_nonce[1], p_ephemeral_public_key[1], p_reply_to[1]) o;
        return;
    end if;
    -- In id order, so that batches of two nodes never wait for each other in a circle.
    if p_lock_ms > 0 then
        perform 1 from conversations c where c.id = any(p_conversations) order by c.id for no key update;
    else
        held := array(
            select c.id from conversations c where c.id = any(p_conversations) order by c.id for no key update skip locked
        );
        if cardinality(held) < cardinality(p_conversations) then
            locked := (
                select array_agg(c.id) from conversations c where c.id = any(p_conversations) and c.id <> all(held)
            );
        end if;
    end if;
    stamp := clock_timestamp();
    -- A later statement has a new snapshot: what committed while we waited for the locks is seen, twins included.
    return query
    with input as (
        select * from unnest(p_conversation, p_known_version, p_id, p_sender, p_temp_id, p_digest, p_content_type,
                             p_content, p_nonce, p_ephemeral_public_key, p_reply_to)
            with ordinality as i(conversation_id, known_version, id, sender_id, temp_id, digest, content_type,
                                 content, nonce, ephemeral_public_key, reply_to, n)
    ), twin as (
        select i.n, s.seq, s.message_id, s.created,
               s.digest = i.digest and s.conversation_id = i.conversation_id as same
        from input i join sends s on s.sender_id = i.sender_id and s.temp_id = i.temp_id
    ), numbered as (
        select i.*, c.last_seq + row_number() over (partition by i.conversation_id order by i.n) as seq,
               greatest(stamp, c.active_at) as created,
               case when c.low_blocks and i.sender_id = c.direct_high then c.direct_low
                    when c.high_blocks and i.sender_id = c.direct_low then c.direct_high end as blocker_id
        from input i
        join conversations c on c.id = i.conversation_id
        join participants p on p.conversation_id = i.conversation_id and p.user_id = i.sender_id
        where not exists (select from twin t where t.n = i.n)
          and (locked is null or i.conversation_id <> all(locked))
          and (i.reply_to is null or i.reply_to > p.joined_seq and i.reply_to <= c.last_seq)
    ), to_messages as (
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                              ephemeral_public_key, reply_to, is_silent)
        select b.conversation_id, b.seq, b.id, b.sender_id, b.created, b.content_type, b.content, b.nonce,
               b.ephemeral_public_key, b.reply_to, b.blocker_id is not null
        from numbered b
    ), to_sends as (
        -- In key order, so that two nodes that retry the same sends do not deadlock.
        insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
        select b.sender_id, b.temp_id, b.conversation_id, b.digest, b.seq, b.id, b.created
        from numbered b order by b.sender_id, b.temp_id
    ), to_outbox as (
        insert into outbox (conversation_id, seq, created) select b.conversation_id, b.seq, b.created from numbered b
    ), moved as (
        update conversations c set last_seq = top.seq, active_at = top.created, changed = pg_current_xact_id()
        from (select b.conversation_id, max(b.seq) as seq, max(b.created) as created
              from numbered b group by b.conversation_id) top
        where c.id = top.conversation_id
    ), own_marks as (
        -- Who writes has read: so own messages never lie above the own mark, and unread counts need no counting. What a
        -- blocked one writes counts as read as well, but nobody is shown that.
        update participants p
        set read_seq = greatest(p.read_seq, top.seq), delivered_seq = greatest(p.delivered_seq, top.seq),
            private_read_seq = greatest(p.private_read_seq, top.silent_seq)
        from (select locked_row.conversation_id, locked_row.user_id, top.seq, top.silent_seq
              from (select m.conversation_id, m.user_id, max(m.seq) as seq, max(m.silent_seq) as silent_seq
                    from (select b.conversation_id, b.sender_id as user_id, b.seq, 0 as silent_seq from numbered b
                          union all
                          select b.conversation_id, b.blocker_id, 0, b.seq from numbered b where b.blocker_id is not null
                         ) m
                    group by m.conversation_id, m.user_id) top
              join participants locked_row on locked_row.conversation_id = top.conversation_id
                                          and locked_row.user_id = top.user_id
              -- In key order, as mark_delivered locks them: neither deadlocks with the other.
              order by locked_row.conversation_id, locked_row.user_id for no key update of locked_row) top
        where p.conversation_id = top.conversation_id and p.user_id = top.user_id
    )
    select i.n,
           case when b.blocker_id is not null then 'silent' when b.n is not null then 'sent'
                when t.same then 'again' when t.n is not null then 'conflict'
                when i.conversation_id = any(locked) then 'locked'
                when i.reply_to is not null and exists (
                    select from participants p where p.conversation_id = i.conversation_id and p.user_id = i.sender_id
                ) then 'unknown'
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

-- What the release before this one calls; so is send_message(), which a call that is under way may still need. It knows no 'silent': to it that is a send that somebody else has told of.
create or replace function send_messages(
    p_conversation uuid[], p_known_version bigint[], p_id uuid[], p_sender uuid[], p_temp_id uuid[], p_digest bytea[],
    p_content_type text[], p_content bytea[], p_nonce bytea[], p_ephemeral_public_key bytea[]
) returns table (
    n bigint, outcome text, seq bigint, id uuid, created bigint, members_version bigint, members uuid[]
) language plpgsql as $$
begin
    return query select s.* from send_batch(
        10000, array(select distinct c from unnest(p_conversation) c), p_conversation, p_known_version, p_id, p_sender,
        p_temp_id, p_digest, p_content_type, p_content, p_nonce, p_ephemeral_public_key,
        array_fill(null::bigint, array[cardinality(p_conversation)])) s;
end $$;

-- What an administrator of a group may do is done by anybody while it has none.
create function may_change(p_conversation uuid, p_user uuid) returns boolean language sql stable as $$
    select coalesce(bool_or(p.user_id = p_user and p.role = 'admin'), false)
           or bool_or(p.user_id = p_user) and not bool_or(p.role = 'admin')
    from participants p where p.conversation_id = p_conversation
$$;

-- Who takes part changes, or what they may do: lists of members are of another version from now on. The conversation is
-- locked, which puts the change before or after each message.
--
-- outcome: 'changed', 'again' (it was so already), or why not: 'stranger' (the one who asks takes no part, or there is no
-- such group), 'forbidden' (no administrator), 'unknown' (no such user, or no participant), 'full'.
create function add_participant(
    p_user uuid, p_conversation uuid, p_other uuid, p_limit int, out outcome text, out members uuid[]
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'again'
        when not exists (select from users u where u.id = p_other) then 'unknown'
        when (select count(*) from participants p where p.conversation_id = p_conversation) >= p_limit then 'full'
        else 'changed' end;
    if outcome = 'changed' then
        insert into participants (conversation_id, user_id, joined_seq)
        values (p_conversation, p_other, case when conversation.joiners_see_all then 0 else conversation.last_seq end);
        delete from departures d where d.user_id = p_other and d.conversation_id = p_conversation;
        members := note_members(p_conversation);
    end if;
end $$;

create function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid, out outcome text, out members uuid[]
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome = 'changed' then
        with gone as (
            delete from participants p where p.conversation_id = p_conversation and p.user_id = p_other
            returning p.joined_seq
        )
        insert into departures (user_id, conversation_id, joined_seq, left_seq, removed_by)
        select p_other, p_conversation, least(g.joined_seq, conversation.last_seq), conversation.last_seq,
               nullif(p_user, p_other)
        from gone g;
        members := note_members(p_conversation);
    end if;
end $$;

create function set_role(
    p_user uuid, p_conversation uuid, p_other uuid, p_role text, out outcome text, out members uuid[]
) language plpgsql as $$
begin
    perform from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        when exists (
            select from participants p
            where p.conversation_id = p_conversation and p.user_id = p_other and p.role = p_role) then 'again'
        else 'changed' end;
    if outcome = 'changed' then
        update participants p set role = p_role, changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id = p_other;
        members := note_members(p_conversation);
    end if;
end $$;

-- Another version of a conversation's list of members; that list.
create function note_members(p_conversation uuid) returns uuid[] language sql as $$
    update conversations set members_version = members_version + 1, changed = pg_current_xact_id()
    where id = p_conversation;
    select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation;
$$;

-- Blocking is kept with the contact and, for sends, with the direct conversation. One user's pair is changed by one at a
-- time: who makes their conversation meanwhile takes the same lock (add_direct).
create function lock_pair(p_user uuid, p_other uuid) returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended(least(p_user, p_other)::text || greatest(p_user, p_other)::text, 0));
$$;

-- outcome: 'changed', 'again', 'unknown' (no such user). What was unread of who is blocked counts as read.
create function set_blocked(p_user uuid, p_other uuid, p_is_blocked boolean, out outcome text) language plpgsql as $$
declare
    conversation uuid;
begin
    perform lock_pair(p_user, p_other);
    if not exists (select from users u where u.id = p_other) or p_user = p_other then
        outcome := 'unknown';
        return;
    end if;
    if p_is_blocked = coalesce(
        (select c.is_blocked from contacts c where c.user_id = p_user and c.contact_id = p_other), false)
    then
        outcome := 'again';
        return;
    end if;
    insert into contacts (user_id, contact_id, is_blocked) values (p_user, p_other, p_is_blocked)
    on conflict (user_id, contact_id) do update set is_blocked = excluded.is_blocked;
    update conversations c
    set low_blocks = case when c.direct_low = p_user then p_is_blocked else c.low_blocks end,
        high_blocks = case when c.direct_high = p_user then p_is_blocked else c.high_blocks end,
        changed = pg_current_xact_id()
    where c.direct_low = least(p_user, p_other) and c.direct_high = greatest(p_user, p_other)
    returning c.id into conversation;
    if p_is_blocked then
        update participants p set private_read_seq = (select c.last_seq from conversations c where c.id = conversation)
        where p.conversation_id = conversation and p.user_id = p_user;
    end if;
    outcome := 'changed';
end $$;

-- The direct conversation of two users: made if there is none.
create function add_direct(
    p_conversation uuid, p_user uuid, p_other uuid, out conversation uuid, out is_new boolean
) language plpgsql as $$
declare
    low uuid := least(p_user, p_other);
    high uuid := greatest(p_user, p_other);
begin
    select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
    is_new := not found;
    if is_new then
        perform lock_pair(p_user, p_other);
        insert into conversations as c (id, kind, direct_low, direct_high, low_blocks, high_blocks)
        values (p_conversation, 'direct', low, high,
                exists (select from contacts b where b.user_id = low and b.contact_id = high and b.is_blocked),
                exists (select from contacts b where b.user_id = high and b.contact_id = low and b.is_blocked))
        on conflict on constraint conversations_direct do nothing
        returning c.id into conversation;
        is_new := found;
        if is_new then
            insert into participants (conversation_id, user_id) values (p_conversation, low), (p_conversation, high);
        else
            select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
        end if;
    end if;
end $$;

-- Other content for a message.
--
-- outcome: 'edited', 'again' (a retry of the same edit), or why not: 'stranger', 'unknown', 'foreign' (another's),
-- 'deleted', 'conflict' (it has another revision). members: whose devices are to be told.
drop function edit_message(uuid, uuid, bigint, bigint, text, bytea, bytea, bytea);
create function edit_message(
    p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    out outcome text, out id uuid, out created bigint, out revision bigint, out edited bigint, out members uuid[],
    out reply_to bigint
) language plpgsql as $$
declare
    floor bigint;
    old messages;
    stamp timestamptz;
begin
    perform from conversations c where c.id = p_conversation for no key update;
    select p.joined_seq into floor from participants p where p.conversation_id = p_conversation and p.user_id = p_user;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    select m.* into old from messages m where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor;
    outcome := case
        when not found then 'unknown'
        when old.sender_id <> p_user then 'foreign'
        when old.deleted is not null then 'deleted'
        when exists (select from hidden h
                     where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = p_seq) then 'deleted'
        when old.revision = p_revision then 'edited'
        when old.revision = p_revision + 1
             and (old.content_type, old.content) = (p_content_type, p_content)
             and old.nonce is not distinct from p_nonce
             and old.ephemeral_public_key is not distinct from p_ephemeral_public_key then 'again'
        else 'conflict' end;
    stamp := old.edited;
    if outcome = 'edited' then
        stamp := greatest(clock_timestamp(), old.created, old.edited);
        update messages m
        set content_type = p_content_type, content = p_content, nonce = p_nonce,
            ephemeral_public_key = p_ephemeral_public_key, revision = old.revision + 1, edited = stamp
        where m.conversation_id = p_conversation and m.seq = p_seq;
        perform note_revision(p_conversation, p_seq);
        members := case when old.is_silent then array[p_user] else (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq and not exists (
                select from hidden h
                where h.user_id = p.user_id and h.conversation_id = p_conversation and h.seq = p_seq
            )
        ) end;
    end if;
    id := old.id;
    reply_to := old.reply_to;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    revision := p_revision + 1;
    edited := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- A message is gone for everyone: its content is erased, a tombstone stays.
--
-- outcome: 'deleted', 'again' (it was), or why not: 'stranger', 'unknown', 'foreign'.
create or replace function delete_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid, out members uuid[]
) language plpgsql as $$
declare
    floor bigint;
    old messages;
begin
    perform from conversations c where c.id = p_conversation for no key update;
    select p.joined_seq into floor from participants p where p.conversation_id = p_conversation and p.user_id = p_user;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    select m.* into old from messages m where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor;
    outcome := case
        when not found then 'unknown'
        when old.sender_id <> p_user then 'foreign'
        when old.deleted is not null then 'again'
        else 'deleted' end;
    if outcome = 'deleted' then
        update messages m
        set content_type = '', content = '', nonce = null, ephemeral_public_key = null, deleted = clock_timestamp()
        where m.conversation_id = p_conversation and m.seq = p_seq;
        perform note_revision(p_conversation, p_seq);
        members := case when old.is_silent then array[p_user] else (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq
        ) end;
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
end $$;

-- What of some conversations a snapshot does not see: messages that were added, edited or deleted since, as p_user may see
-- them; conversation after conversation as given, in order of seq. p_after: only those with a greater seq.
-- It ends with p_limit rows, or p_bytes of content, and then one more, whose is_beyond is true: there is more.
drop function unseen_messages(uuid, uuid[], bigint[], pg_snapshot, int, bigint);
create function unseen_messages(
    p_user uuid, p_conversation uuid[], p_after bigint[], p_snapshot pg_snapshot, p_limit int, p_bytes bigint
) returns table (
    conversation uuid, seq bigint, id uuid, created bigint, sender uuid, content_type text, content bytea, nonce bytea,
    ephemeral_public_key bytea, revision int, edited bigint, reply_to bigint, is_gone boolean, is_beyond boolean
) language plpgsql stable as $$
declare
    first bigint;
    bytes bigint := 0;
    messages int := 0;
    m record;
begin
    for n in 1 .. cardinality(p_conversation) loop
        first := first_unseen(p_conversation[n], p_after[n], p_snapshot);
        for m in
            select each.*, exists (
                select from hidden h
                where h.user_id = p_user and h.conversation_id = each.conversation_id and h.seq = each.seq
            ) as is_hidden
            from (
                (select * from messages a
                 where a.conversation_id = p_conversation[n] and a.seq >= first
                 order by a.seq limit p_limit + 1)
                union all
                select a.* from (
                    select r.seq from revisions r
                    where r.conversation_id = p_conversation[n] and not pg_visible_in_snapshot(r.changed, p_snapshot)
                      and r.changed >= pg_snapshot_xmin(p_snapshot)
                    union
                    select h.seq from hidden h
                    where h.user_id = p_user and h.conversation_id = p_conversation[n]
                      and not pg_visible_in_snapshot(h.changed, p_snapshot)
                ) old
                join messages a on a.conversation_id = p_conversation[n] and a.seq = old.seq
                where old.seq > p_after[n] and old.seq < first
            ) each
            order by each.seq limit p_limit + 1
        loop
            bytes := bytes + octet_length(m.content);
            conversation := p_conversation[n];
            seq := m.seq;
            if messages = p_limit or messages > 0 and bytes > p_bytes then
                is_beyond := true;
                return next;
                return;
            end if;
            messages := messages + 1;
            id := m.id;
            created := (extract(epoch from m.created) * 1000000)::bigint;
            sender := m.sender_id;
            content_type := m.content_type;
            content := m.content;
            nonce := m.nonce;
            ephemeral_public_key := m.ephemeral_public_key;
            revision := nullif(m.revision, 0);
            edited := (extract(epoch from m.edited) * 1000000)::bigint;
            reply_to := m.reply_to;
            is_gone := m.deleted is not null or m.is_hidden or m.is_silent and m.sender_id <> p_user;
            is_beyond := false;
            return next;
        end loop;
    end loop;
end $$;
