-- Editing and deleting, cursors of sync, tokens that expire.
-- Columns named changed hold the transaction that wrote the row last. Together with a snapshot they tell what has been
-- committed since (docs/decisions/0009); null is a row from before this migration, which everybody has seen. As every
-- later writer gets them by default, the release before this one may go on serving.

alter table messages
    -- Not touched by edits: within a conversation messages are added one transaction after the other, so those that a
    -- snapshot does not see are the ones above some seq.
    add column added xid8,
    add column revision int not null default 0,
    add column edited timestamptz,
    add column deleted timestamptz;
alter table messages alter column added set default pg_current_xact_id();
alter table conversations add column changed xid8;
alter table conversations alter column changed set default pg_current_xact_id();
alter table participants add column changed xid8;
alter table participants alter column changed set default pg_current_xact_id();

-- Messages that were edited, or deleted for everyone: when last, in xids and in time.
create table revisions (
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    primary key (conversation_id, seq)
);
create index revisions_changed on revisions (conversation_id, changed);
create index revisions_at on revisions (at);

-- Messages that a user has deleted for themselves.
create table hidden (
    user_id uuid not null,
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    primary key (user_id, conversation_id, seq)
);
create index hidden_at on hidden (at);

alter table devices
    add column expires timestamptz not null default now() + interval '90 days',
    -- The token before the last refresh: good for a while, should the reply to that have been lost.
    add column former_token_hash bytea check (length(former_token_hash) = 32),
    add column former_expires timestamptz,
    add check ((former_token_hash is null) = (former_expires is null));
create unique index devices_former_token on devices (former_token_hash) where former_token_hash is not null;
create index devices_revoked on devices (revoked) where revoked is not null;

-- Which history cursors are about: a database that is restored from a copy gets another id.
create table history (
    id uuid not null default gen_random_uuid(),
    is_only boolean primary key default true check (is_only)
);
insert into history default values;

-- A batch of one; see send_messages(), which calls it and says what the columns mean.
create or replace function send_message(
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
    update conversations c set last_seq = send_message.seq, active_at = stamp, changed = pg_current_xact_id()
    where c.id = p_conversation;
    outcome := 'sent';
    id := p_id;
    created := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- A batch of sends, one row of each argument per send: one call, one transaction, one round trip.
--
-- outcome: 'sent' (new), 'again' (a retry of the same send: the first answer), 'conflict' (the temp_id was used for
-- another message), 'stranger' (no participant, or no such conversation). members is the conversation's participants,
-- for the rows whose known_version is neither null nor current.
create or replace function send_messages(
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
        update conversations c set last_seq = top.seq, active_at = top.created, changed = pg_current_xact_id()
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

-- Other content for a message.
--
-- outcome: 'edited', 'again' (a retry of the same edit), or why not: 'stranger', 'unknown', 'foreign' (another's),
-- 'deleted', 'conflict' (it has another revision). members: whose devices are to be told.
create function edit_message(
    p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    out outcome text, out id uuid, out created bigint, out revision bigint, out edited bigint, out members uuid[]
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
        members := (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq and not exists (
                select from hidden h
                where h.user_id = p.user_id and h.conversation_id = p_conversation and h.seq = p_seq
            )
        );
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    revision := p_revision + 1;
    edited := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- A message is gone for everyone: its content is erased, a tombstone stays.
--
-- outcome: 'deleted', 'again' (it was), or why not: 'stranger', 'unknown', 'foreign'.
create function delete_message(
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
        members := (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq
        );
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
end $$;

create function note_revision(p_conversation uuid, p_seq bigint) returns void language sql as $$
    insert into revisions (conversation_id, seq) values (p_conversation, p_seq)
    on conflict (conversation_id, seq) do update set changed = excluded.changed, at = excluded.at;
    update conversations set changed = pg_current_xact_id() where id = p_conversation;
$$;

-- A message is gone for one user. outcome: 'deleted', 'again', or why not: 'stranger', 'unknown'.
create function hide_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid
) language plpgsql as $$
declare
    floor bigint;
    old messages;
begin
    select p.joined_seq into floor from participants p
    where p.conversation_id = p_conversation and p.user_id = p_user for no key update;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    select m.* into old from messages m where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor;
    if not found then
        outcome := 'unknown';
        return;
    end if;
    outcome := 'again';
    if old.deleted is null then
        insert into hidden (user_id, conversation_id, seq) values (p_user, p_conversation, p_seq)
        on conflict do nothing;
        if found then
            outcome := 'deleted';
            update participants p set changed = pg_current_xact_id()
            where p.conversation_id = p_conversation and p.user_id = p_user;
        end if;
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
end $$;

-- The first seq above p_floor whose message the snapshot does not see; one above the last seq if there is none. Searched
-- from the end in growing steps, then by halves: most devices have missed little.
create function first_unseen(p_conversation uuid, p_floor bigint, p_snapshot pg_snapshot) returns bigint
language plpgsql stable as $$
declare
    seen bigint := p_floor;  -- nothing at or below it is unseen
    unseen bigint := 1 + (select c.last_seq from conversations c where c.id = p_conversation);  -- nothing from it on is seen
    step bigint := 1;
    probe bigint;
    below record;
begin
    while seen + 1 < unseen loop
        probe := greatest(unseen - step, (seen + unseen) / 2);
        step := step * 2;
        select m.seq, pg_visible_in_snapshot(m.added, p_snapshot) as is_seen into below
        from messages m where m.conversation_id = p_conversation and m.seq > seen and m.seq <= probe
        order by m.seq desc limit 1;
        if found and not below.is_seen then
            unseen := below.seq;
        else
            seen := probe;
        end if;
    end loop;
    return unseen;
end $$;

-- What of some conversations a snapshot does not see: messages that were added, edited or deleted since, as p_user may see
-- them; conversation after conversation as given, in order of seq. p_after: only those with a greater seq.
-- It ends with p_limit rows, or p_bytes of content, and then one more, whose is_beyond is true: there is more.
create function unseen_messages(
    p_user uuid, p_conversation uuid[], p_after bigint[], p_snapshot pg_snapshot, p_limit int, p_bytes bigint
) returns table (
    conversation uuid, seq bigint, id uuid, created bigint, sender uuid, content_type text, content bytea, nonce bytea,
    ephemeral_public_key bytea, revision int, edited bigint, is_gone boolean, is_beyond boolean
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
            is_gone := m.deleted is not null or m.is_hidden;
            is_beyond := false;
            return next;
        end loop;
    end loop;
end $$;
