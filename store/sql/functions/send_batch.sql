-- Commits a batch of sends in one transaction and one round trip. Each array has one element for each send; each row of
-- the result belongs to one send, in order.
--
-- p_lock_ms: how long to wait for a locked conversation, in milliseconds. 0: do not wait, its sends are 'locked'. Other
--     locks are waited for as long, or for 200 ms.
-- p_conversations: the conversations of the batch, each once.
-- p_known_version: the recipients_version that the caller knows, or null.
-- p_attachments: the ids of attachments of each send, as the text of an array. Null: no send of the batch has any; as
--     p_thumbnail.
-- outcome:
--   'sent': new
--   'silent': new, and its sender is blocked: only the sender's devices are to be told
--   'again': a retry of the same send; the row is the first answer
--   'conflict': the temp_id was used for another message
--   'unknown': p_reply_to is not a message that the sender may read
--   'unattachable', 'incomplete', 'used': it cannot have its attachments (refused_attachment)
--   'control': p_follows is neither null nor the control_seq of the conversation
--   'devices': p_devices_version is neither null nor the present version
--   'unlisted': some of p_envelope_devices are not of the conversation's device set
--   'stranger': the sender takes no part, or the conversation does not exist
--   'closed': the conversation is direct, and its other user is deleted
--   'locked': nothing was done
-- device: of a retry, the device that wrote the message.
-- quiet_count: how many of the messages up to this one are quiet; null: a retry of one that is gone.
-- participant_ids: the participants of the conversation, if p_known_version is neither null nor current.
-- devices_version, refused_for: of 'devices', the present version, and the users whose devices have changed since the one
--     given (changed_devices). refused_for, of 'unlisted': these devices. p_devices_version is null as p_attachments is.
-- p_envelopes: the bodies of envelopes; null as p_attachments is. p_envelope_devices, p_envelope_ends: those of all sends, one
--     after the other; p_envelope_upto: how many of them belong to the sends up to this one; p_envelope_of: the number of the
--     send to which each of them belongs, or null: the caller knows that it is of the device set of p_devices_version. Null
--     itself: the caller knows it of all.
-- p_follows: null as p_attachments is. control_seq: of 'control', the present one.
create or replace function send_batch(
    p_lock_ms int, p_conversations uuid[],
    p_conversation uuid[], p_known_version bigint[], p_id uuid[], p_sender uuid[], p_temp_id uuid[], p_digest bytea[],
    p_content_type text[], p_content bytea[], p_nonce bytea[], p_ephemeral_public_key bytea[], p_reply_to bigint[],
    p_attachments text[], p_thumbnail bytea[], p_device uuid[],
    p_is_quiet boolean[], p_devices_version bigint[], p_envelopes bytea[], p_envelope_devices uuid[],
    p_envelope_ends bigint[], p_envelope_of bigint[], p_envelope_upto bigint[], p_follows bigint[]
) returns table (
    n bigint, outcome text, seq bigint, id uuid, created bigint, device uuid, quiet_count bigint, recipients_version bigint,
    participant_ids uuid[], devices_version bigint, refused_for uuid[], control_seq bigint
) language plpgsql set plan_cache_mode = force_generic_plan set lock_timeout = '200ms' as $$
-- Planning the statement below costs more than running it, and its arguments do not change the plan.
-- PostgresConnection.query in store/postgres/driver.py says how plans that were made for small tables are replaced.
declare
    stamp timestamptz;
    held uuid[];
    locked uuid[];
    named uuid[];
    takeable uuid[];
    refused text[];
    unlisted_of bigint[];
    unlisted_ids uuid[];
    unlisted text[];
begin
    if p_lock_ms > 0 then
        perform set_config('lock_timeout', p_lock_ms::text, true);
    end if;
    if cardinality(p_conversation) = 1 then
        -- The same as below for one row. Under light load most batches have one, and setting up the statement below
        -- costs more than all statements of send_one().
        return query select 1::bigint, o.* from send_one(
            p_lock_ms, p_conversation[1], p_known_version[1], p_id[1], p_sender[1], p_temp_id[1], p_digest[1],
            p_content_type[1], p_content[1], p_nonce[1], p_ephemeral_public_key[1], p_reply_to[1],
            p_attachments[1]::uuid[], p_thumbnail[1], p_device[1], p_is_quiet[1],
            p_devices_version[1], p_envelopes[1], p_envelope_devices, p_envelope_ends, p_envelope_of is not null,
            p_follows[1]) o;
        return;
    end if;
    -- In id order, so that batches of two nodes never wait for each other in a circle.
    if p_lock_ms > 0 then
        perform 1 from conversations c where c.id = any(p_conversations) order by c.id for no key update;
    else
        held := array(
            select c.id from conversations c
            where c.id = any(p_conversations) order by c.id for no key update skip locked
        );
        if cardinality(held) < cardinality(p_conversations) then
            locked := (
                select array_agg(c.id) from conversations c where c.id = any(p_conversations) and c.id <> all(held)
            );
        end if;
    end if;
    if p_attachments is not null then
        named := array(select unnest(i.attachments::uuid[]) from unnest(p_attachments) as i(attachments));
        takeable := lock_attachments(named);
    end if;
    -- Two sends name one file, or follow one control message: whether the second can be sent depends on the outcome of the
    -- first. A batch without files and control messages does not ask.
    if p_attachments is not null or p_follows is not null then
        if cardinality(named) > (select count(distinct i.id) from unnest(named) as i(id))
           or p_follows is not null and exists (
               select from unnest(p_conversation, p_follows) i(conversation_id, follows)
               where i.follows is not null group by i.conversation_id having count(*) > 1
           ) then
            return query
            select i.n, o.*
            from unnest(p_conversation, p_known_version, p_id, p_sender, p_temp_id, p_digest, p_content_type, p_content,
                        p_nonce, p_ephemeral_public_key, p_reply_to, p_attachments, p_thumbnail, p_device,
                        p_is_quiet, p_devices_version, p_envelopes, p_envelope_upto, p_follows)
                with ordinality as i(conversation_id, known_version, id, sender_id, temp_id, digest, content_type,
                                     content, nonce, ephemeral_public_key, reply_to, attachments, thumbnail,
                                     device_id, is_quiet, devices_version, envelopes, envelope_upto, follows, n)
            cross join lateral send_one(
                p_lock_ms, i.conversation_id, i.known_version, i.id, i.sender_id, i.temp_id, i.digest, i.content_type,
                i.content, i.nonce, i.ephemeral_public_key, i.reply_to, i.attachments::uuid[], i.thumbnail,
                i.device_id, i.is_quiet, i.devices_version, i.envelopes,
                case when i.envelopes is not null then
                    p_envelope_devices[coalesce(p_envelope_upto[i.n - 1], 0) + 1 : i.envelope_upto] end,
                case when i.envelopes is not null then
                    p_envelope_ends[coalesce(p_envelope_upto[i.n - 1], 0) + 1 : i.envelope_upto] end,
                i.n = any(p_envelope_of), i.follows) o
            order by i.n;
            return;
        end if;
    end if;
    if p_attachments is not null then
        refused := array(
            select case when i.attachments is not null then
                       refused_attachment(i.sender_id, i.attachments::uuid[], takeable, null, null) end
            from unnest(p_sender, p_attachments) with ordinality as i(sender_id, attachments, n) order by i.n
        );
    end if;
    if p_envelope_of is not null then
        -- The limit and the offsets make Postgres look up each by its key.
        select array_agg(i.n order by i.n), array_agg(i.id order by i.n) into unlisted_of, unlisted_ids
        from unnest(p_envelope_of, p_envelope_devices) i(n, id)
        left join lateral (
            select d.user_id from devices d where d.id = i.id and d.identity is not null limit 1
        ) d on true
        where i.n is not null and not exists (
            select from participants p
            where p.conversation_id = p_conversation[i.n] and p.user_id = d.user_id offset 0
        ) and not exists (
            select from withheld w where w.conversation_id = p_conversation[i.n] and w.user_id = d.user_id offset 0
        );
        if unlisted_of is not null then
            -- By send: a comparison with unlisted_of itself, below, cost each send of any batch 15 us.
            unlisted := array(
                select (select array_agg(u.id)::text from unnest(unlisted_of, unlisted_ids) u(n, id) where u.n = g.n)
                from generate_series(1, cardinality(p_conversation)) g(n) order by g.n
            );
        end if;
    end if;
    stamp := clock_timestamp();
    -- This statement has a new snapshot: it sees commits from while we waited for the locks, and so each duplicate.
    return query
    with input as (
        select * from unnest(p_conversation, p_known_version, p_id, p_sender, p_temp_id, p_digest, p_content_type,
                             p_content, p_nonce, p_ephemeral_public_key, p_reply_to, p_attachments, p_thumbnail,
                             p_device, p_is_quiet, p_devices_version, p_envelopes, p_envelope_upto, p_follows)
            with ordinality as i(conversation_id, known_version, id, sender_id, temp_id, digest, content_type,
                                 content, nonce, ephemeral_public_key, reply_to, attachments, thumbnail, device_id,
                                 is_quiet, devices_version, envelopes, envelope_upto, follows, n)
    ), numbered as (
        select i.*, c.last_seq + row_number() over in_conversation as seq,
               c.quiet_count + count(*) filter (where i.is_quiet) over in_conversation as quiet_count,
               greatest(stamp, c.active_at, c.last_quiet_at) as created, c.recipients_version,
               case when c.low_blocks and i.sender_id = c.direct_high then c.direct_low
                    when c.high_blocks and i.sender_id = c.direct_low then c.direct_high end as blocker_id
        from input i
        join conversations c on c.id = i.conversation_id
        join participants p on p.conversation_id = i.conversation_id and p.user_id = i.sender_id
        -- The offset makes Postgres look up each by its key.
        where not exists (select from sends s where s.sender_id = i.sender_id and s.temp_id = i.temp_id offset 0)
          and not c.is_closed
          and (locked is null or i.conversation_id <> all(locked))
          and (i.reply_to is null or i.reply_to > floor_of(c, p) and i.reply_to <= c.last_seq)
          and refused[i.n] is null
          and (i.follows is null or i.follows = c.control_seq)
          and (i.devices_version is null or i.devices_version = c.devices_version)
          and unlisted[i.n] is null
        window in_conversation as (partition by i.conversation_id order by i.n)
    ), to_messages as (
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                              ephemeral_public_key, reply_to, is_silent, temp_id, device_id, is_quiet, quiet_count,
                              attachments, thumbnail, has_envelopes, follows)
        select b.conversation_id, b.seq, b.id, b.sender_id, b.created, b.content_type, b.content, b.nonce,
               b.ephemeral_public_key, b.reply_to, b.blocker_id is not null, b.temp_id, b.device_id, b.is_quiet,
               b.quiet_count, b.attachments::uuid[], b.thumbnail, b.envelopes is not null, b.follows
        from numbered b
    ), to_sends as (
        -- In key order, so that two nodes that retry the same sends never deadlock.
        insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
        select b.sender_id, b.temp_id, b.conversation_id, b.digest, b.seq, b.id, b.created
        from numbered b order by b.sender_id, b.temp_id
    ), to_envelopes as (
        insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)
        select b.conversation_id, b.seq, 0, 0,
               p_envelope_devices[coalesce(p_envelope_upto[b.n - 1], 0) + 1 : b.envelope_upto],
               p_envelope_ends[coalesce(p_envelope_upto[b.n - 1], 0) + 1 : b.envelope_upto], b.envelopes, b.created
        from numbered b where b.envelopes is not null
    ), to_outbox as (
        insert into outbox (conversation_id, seq, created) select b.conversation_id, b.seq, b.created from numbered b
    ), moved as (
        -- A quiet message moves the conversation in no list: the last message that lists show stays.
        update conversations c
        set last_seq = b.seq, active_at = coalesce(b.shown_at, c.active_at), changed = pg_current_xact_id(),
            quiet_count = b.quiet_count,
            shown_seq = case when b.shown_seq = b.seq then null else coalesce(b.shown_seq, c.shown_seq, c.last_seq) end,
            last_quiet_at = coalesce(b.last_quiet_at, c.last_quiet_at),
            control_seq = coalesce(b.control_seq, c.control_seq)
        from (select n.conversation_id, max(n.seq) as seq, max(n.quiet_count) as quiet_count,
                     max(n.seq) filter (where not n.is_quiet) as shown_seq,
                     max(n.created) filter (where not n.is_quiet) as shown_at,
                     max(n.created) filter (where n.is_quiet) as last_quiet_at,
                     max(n.seq) filter (where n.follows is not null) as control_seq
              from numbered n group by n.conversation_id) b
        where c.id = b.conversation_id
    ), own_marks as (
        -- A sender has read the conversation, so own messages that are not quiet never lie above the own mark, and unread
        -- counts need no counting. A sender has accepted a request, which publishes the delivered mark. Messages of a
        -- blocked sender do not count for the blocker. The blocker and the sender are alone in their conversation: all
        -- messages after the blocker's last one are silent.
        -- counted: the number of messages up to one that are not quiet.
        update participants p
        set read_seq = greatest(p.read_seq, top.seq), delivered_seq = greatest(
                p.delivered_seq, top.seq,
                case when top.written is not null and p.asked_by is not null then p.private_delivered_seq end),
            marked = case when top.written is null or p.asked_by is null then p.marked else pg_current_xact_id() end,
            written_seq = greatest(p.written_seq, top.written),
            silenced = case when top.silent_seq is null then p.silenced else pg_current_xact_id() end,
            uncounted = case when top.seq is null then p.uncounted + top.silent
                             else greatest(top.silent_counted - top.counted, 0) end,
            own_changed = case when top.written is null or p.asked_by is null then p.own_changed
                               else pg_current_xact_id() end,
            asked_by = case when top.written is null then p.asked_by end,
            asked_seq = case when top.written is null then p.asked_seq end
        from (select locked_row.conversation_id, locked_row.user_id, top.written, top.seq, top.counted, top.silent_seq,
                     top.silent_counted, top.silent
              from (select m.conversation_id, m.user_id, max(m.written) as written,
                           max(m.written) filter (where not m.is_quiet) as seq,
                           max(m.counted) filter (where not m.is_quiet and m.written is not null) as counted,
                           max(m.silent_seq) as silent_seq,
                           max(m.counted) filter (where m.silent_seq is not null) as silent_counted,
                           count(m.silent_seq) filter (where not m.is_quiet) as silent
                    from (select b.conversation_id, b.sender_id as user_id, b.seq as written, null::bigint as silent_seq,
                                 b.seq - b.quiet_count as counted, b.is_quiet
                          from numbered b
                          union all
                          select b.conversation_id, b.blocker_id, null, b.seq, b.seq - b.quiet_count, b.is_quiet
                          from numbered b where b.blocker_id is not null
                         ) m
                    group by m.conversation_id, m.user_id) top
              join participants locked_row on locked_row.conversation_id = top.conversation_id
                                          and locked_row.user_id = top.user_id
              -- In key order, as marks lock them (mark in marks.sql): neither deadlocks with the other.
              order by locked_row.conversation_id, locked_row.user_id for no key update of locked_row) top
        where p.conversation_id = top.conversation_id and p.user_id = top.user_id
    )
    select i.n,
           case when b.blocker_id is not null then 'silent' when b.n is not null then 'sent' else u.outcome end,
           coalesce(b.seq, u.seq), coalesce(b.id, u.id),
           coalesce((extract(epoch from b.created) * 1000000)::bigint, u.created),
           u.device, coalesce(b.quiet_count, u.quiet_count),
           coalesce(b.recipients_version, u.recipients_version),
           case when i.known_version <> coalesce(b.recipients_version, u.recipients_version) then
               (select array_agg(p.user_id) from participants p where p.conversation_id = i.conversation_id) end,
           u.devices_version, u.refused_for, u.control_seq
    from input i
    left join numbered b on b.n = i.n
    left join lateral (
        -- The offset keeps Postgres from calling it for sends that are stored.
        select u.* from unsent(i.conversation_id, i.sender_id, i.temp_id, i.digest, i.reply_to, i.devices_version, i.follows,
                               refused[i.n], unlisted[i.n]::uuid[], i.conversation_id = any(locked)) u
        where b.n is null offset 0
    ) u on true
    order by i.n;
    if p_attachments is not null then
        -- Only sends that were committed here take theirs, not those that are repeated.
        perform take_attachments(s.conversation_id, s.seq, i.attachments::uuid[])
        from unnest(p_sender, p_temp_id, p_id, p_attachments) as i(sender_id, temp_id, id, attachments)
        join sends s on s.sender_id = i.sender_id and s.temp_id = i.temp_id and s.message_id = i.id
        where i.attachments is not null;
    end if;
end $$;
