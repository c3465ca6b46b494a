-- How long messages live: by conversation (they disappear) or by deployment, and how those whose time has come are found
-- (docs/decisions/0023). The release before this one goes on working: it knows nothing of lifetimes, and calls the same
-- functions to send, edit and delete.

-- For each conversation, when to look for messages whose time has come, and what is still to be done about those that are
-- below its floor. Apart from conversations, and without a foreign key: sends do not touch it, and what moves it takes no
-- lock that a send would meet.
create table expiries (
    conversation_id uuid primary key,
    -- No message above the floor was created before. Sends make younger ones, so it holds until somebody looks again.
    oldest timestamptz not null,
    -- That and the conversation's lifetime; null: it has none.
    due timestamptz,
    -- The devices that are connected have been told of the floor.
    is_announced boolean not null default true,
    -- What lies below the floor is to be archived before it is deleted.
    wants_archive boolean not null default false,
    -- What lies below the floor is deleted. Until then the floor stays.
    is_cleared boolean not null default true
);

-- No message is older than its conversation.
insert into expiries (conversation_id, oldest) select c.id, c.created from conversations c;

create index expiries_oldest on expiries (oldest) where is_cleared;
create index expiries_due on expiries (due) where is_cleared and due is not null;
create index expiries_uncleared on expiries (conversation_id) where not is_cleared;

-- From here on conversations are locked, for a moment.
alter table conversations
    -- For how long messages live; null: as long as the deployment keeps them.
    add column lifetime_s int,
    -- The floor was moved last by; null: never.
    add column floor_changed xid8;
alter table conversations
    add constraint conversations_lifetime check (lifetime_s between 60 and 315360000) not valid;

create function note_expiry() returns trigger language plpgsql as $$
begin
    insert into expiries (conversation_id, oldest) values (new.id, new.created) on conflict do nothing;
    return null;
end $$;
create trigger conversations_expiry after insert on conversations for each row execute function note_expiry();
-- Those that were made since the insertion above began.
insert into expiries (conversation_id, oldest)
select c.id, c.created from conversations c where c.created > now() - interval '1 hour'
on conflict do nothing;

-- The last message above p_floor that was created at p_until or before; p_floor if there is none. Searched from the floor in
-- growing steps, then by halves: mostly few messages' time has come.
create function expired_upto(p_conversation uuid, p_floor bigint, p_last bigint, p_until timestamptz) returns bigint
language plpgsql stable as $$
declare
    expired bigint := p_floor;  -- all up to it are
    living bigint := p_last + 1;  -- from it on none is
    step bigint := 1;
    probe bigint;
    above record;
begin
    while expired + 1 < living loop
        probe := least(expired + step, (expired + living) / 2);
        step := step * 2;
        select m.seq, m.created <= p_until as is_expired into above
        from messages m where m.conversation_id = p_conversation and m.seq >= probe and m.seq < living
        order by m.seq limit 1;
        if found and above.is_expired then
            expired := above.seq;
        else
            living := probe;
        end if;
    end loop;
    return expired;
end $$;

-- Look at conversations in which a message's time may have come, those first that have waited longest, and move the floors of
-- those in which it has. What lies below is still to be announced, archived and deleted.
--
-- p_days: for how long this deployment keeps messages; null: for ever. p_archives: whether it archives what it does not
-- keep; never what disappears because the conversation has a lifetime.
-- looked_at: how many; 0: there are no more, or somebody else has them. moved: how many floors.
create function move_floors(p_days float8, p_archives boolean, p_limit int, out looked_at int, out moved int)
language plpgsql set lock_timeout = '1s' as $$
declare
    stamp timestamptz := clock_timestamp();
    kept interval := make_interval(secs => p_days * 86400);
    lifetime interval;
    conversation conversations;
    upto bigint;
    next timestamptz;
    is_moved boolean;
    e record;
begin
    looked_at := 0;
    moved := 0;
    for e in
        select x.conversation_id from expiries x
        where x.conversation_id in (
            (select d.conversation_id from expiries d
             where d.is_cleared and d.due is not null and d.due <= stamp order by d.due limit p_limit)
            union
            (select o.conversation_id from expiries o
             where o.is_cleared and o.oldest <= stamp - kept order by o.oldest limit p_limit)
        ) and x.is_cleared
        -- In this order: participants are locked by their key everywhere.
        order by x.conversation_id for update skip locked
    loop
        select * into conversation from conversations c where c.id = e.conversation_id;
        if not found then
            delete from expiries x where x.conversation_id = e.conversation_id;
            looked_at := looked_at + 1;
            continue;
        end if;
        lifetime := least(make_interval(secs => conversation.lifetime_s), kept);
        -- Some thousand at most in one step: the next look goes on with what is left.
        upto := least(expired_upto(conversation.id, conversation.floor_seq, conversation.last_seq, stamp - lifetime),
                      conversation.floor_seq + 5000);
        is_moved := upto > conversation.floor_seq;
        if is_moved then
            -- As briefly as a send does; where one is under way, the next look does it. Nobody else moves floors, and who
            -- changes the lifetime would need our lock on the other row.
            select * into conversation from conversations c where c.id = e.conversation_id for no key update skip locked;
            continue when not found;
            update conversations c
            set floor_seq = upto, changed = pg_current_xact_id(), floor_changed = pg_current_xact_id()
            where c.id = conversation.id;
            -- Who writes has read, which others know by the message. Who has not got it will not: so it is told as a mark.
            perform from participants p
            where p.conversation_id = conversation.id and p.user_id in (
                select m.sender_id from messages m
                where m.conversation_id = conversation.id and m.seq > conversation.floor_seq and m.seq <= upto)
            order by p.user_id for no key update;
            update participants p set marked = pg_current_xact_id()
            where p.conversation_id = conversation.id and p.user_id in (
                select m.sender_id from messages m
                where m.conversation_id = conversation.id and m.seq > conversation.floor_seq and m.seq <= upto);
            moved := moved + 1;
        end if;
        -- If there is none, none that comes will be older than this; a send that is under way may be, by as long as its
        -- commit takes, and lives on for so long.
        next := coalesce(
            (select m.created from messages m where m.conversation_id = conversation.id and m.seq > upto order by m.seq limit 1),
            stamp);
        update expiries x
        set oldest = next, due = next + make_interval(secs => conversation.lifetime_s), is_announced = not is_moved,
            wants_archive = is_moved and p_archives and conversation.lifetime_s is null, is_cleared = not is_moved
        where x.conversation_id = e.conversation_id;
        looked_at := looked_at + 1;
    end loop;
end $$;

-- A conversation has another name, shows those who join later another part of what was said before, or lets its messages
-- live for another time; null leaves as it is, a lifetime of 0 s is none. Groups are changed by their administrators; of a
-- direct conversation either changes the lifetime, and nothing else. Who is blocked gets the same answer and changes
-- nothing.
-- outcome: 'changed', 'again', or why not: 'stranger', 'forbidden'.
create function change_conversation(
    p_user uuid, p_conversation uuid, p_name text, p_joiners_see_all boolean, p_lifetime_s int,
    out outcome text, out members uuid[], out members_version bigint,
    out name text, out floor_seq bigint, out joiners_see_all boolean, out lifetime_s int
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    name := coalesce(p_name, conversation.name);
    joiners_see_all := coalesce(p_joiners_see_all, conversation.joiners_see_all);
    lifetime_s := nullif(coalesce(p_lifetime_s, conversation.lifetime_s), 0);
    floor_seq := conversation.floor_seq;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.kind = 'direct' and (p_name is not null or p_joiners_see_all is not null) then 'stranger'
        when conversation.kind = 'group' and not may_change(p_conversation, p_user) then 'forbidden'
        when conversation.low_blocks and p_user = conversation.direct_high
             or conversation.high_blocks and p_user = conversation.direct_low then 'again'
        when (name, joiners_see_all, lifetime_s)
             is not distinct from (conversation.name, conversation.joiners_see_all, conversation.lifetime_s) then 'again'
        else 'changed' end;
    if outcome = 'changed' then
        update conversations c
        set name = change_conversation.name, joiners_see_all = change_conversation.joiners_see_all,
            lifetime_s = change_conversation.lifetime_s
        where c.id = p_conversation;
        update expiries e set due = e.oldest + make_interval(secs => change_conversation.lifetime_s)
        where e.conversation_id = p_conversation;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;

-- What lies at or below the floor, nobody edits, deletes, hides or answers any more, whether or not it is deleted yet: the
-- functions below are those of before in all else.

-- A batch of one; see send_batch(), which calls it and says what the columns mean.
create or replace function send_one(
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
        select c.last_seq, c.floor_seq, c.active_at, c.members_version, c.direct_low, c.direct_high, c.low_blocks,
               c.high_blocks
        into conversation from conversations c where c.id = p_conversation for no key update;
    else
        select c.last_seq, c.floor_seq, c.active_at, c.members_version, c.direct_low, c.direct_high, c.low_blocks,
               c.high_blocks
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
        select greatest(p.joined_seq, conversation.floor_seq) into floor from participants p
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
        update participants p
        set private_read_seq = greatest(p.private_read_seq, send_one.seq), marked = pg_current_xact_id()
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
create or replace function send_batch(
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
          and (i.reply_to is null or i.reply_to > greatest(p.joined_seq, c.floor_seq) and i.reply_to <= c.last_seq)
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
            private_read_seq = greatest(p.private_read_seq, top.silent_seq),
            marked = case when top.silent_seq > 0 then pg_current_xact_id() else p.marked end
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

-- Other content for a message.
--
-- outcome: 'edited', 'again' (a retry of the same edit), or why not: 'stranger', 'unknown', 'foreign' (another's),
-- 'deleted', 'conflict' (it has another revision). members: whose devices are to be told; hidden_for: who blocks the sender,
-- and is shown a tombstone from now on: nothing that is written while one is blocked comes through.
create or replace function edit_message(
    p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    out outcome text, out id uuid, out created bigint, out revision bigint, out edited bigint, out members uuid[],
    out reply_to bigint, out hidden_for uuid
) language plpgsql as $$
declare
    conversation conversations;
    floor bigint;
    old messages;
    stamp timestamptz;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    select greatest(p.joined_seq, conversation.floor_seq) into floor
    from participants p where p.conversation_id = p_conversation and p.user_id = p_user;
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
        insert into hidden (user_id, conversation_id, seq)
        select p.user_id, p_conversation, p_seq from participants p
        where p.conversation_id = p_conversation and p.user_id <> p_user and not old.is_silent
          and is_blocker(conversation, p.user_id)
        on conflict do nothing
        returning hidden.user_id into hidden_for;
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
    select greatest(p.joined_seq, c.floor_seq) into floor
    from participants p join conversations c on c.id = p.conversation_id
    where p.conversation_id = p_conversation and p.user_id = p_user;
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

-- A message is gone for one user. outcome: 'deleted', 'again', or why not: 'stranger', 'unknown'.
create or replace function hide_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid
) language plpgsql as $$
declare
    floor bigint;
    old messages;
begin
    select greatest(p.joined_seq, c.floor_seq) into floor
    from participants p join conversations c on c.id = p.conversation_id
    where p.conversation_id = p_conversation and p.user_id = p_user for no key update of p;
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

-- outcome: 'changed', 'again', 'unknown' (no such user). What was unread of who is blocked counts as read, on all
-- devices.
create or replace function set_blocked(p_user uuid, p_other uuid, p_is_blocked boolean, out outcome text) language plpgsql as $$
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
        update participants p
        set private_read_seq = (select c.last_seq from conversations c where c.id = conversation),
            marked = pg_current_xact_id()
        where p.conversation_id = conversation and p.user_id = p_user;
    end if;
    outcome := 'changed';
end $$;
