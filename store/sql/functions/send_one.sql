-- Commits a batch of one send. send_batch() calls it, and says what the parameters and columns mean.
--
-- p_finds_devices: whether to look up the devices of its envelopes in the device set.
create or replace function send_one(
    p_lock_ms int, p_conversation uuid, p_known_version bigint, p_id uuid, p_sender uuid, p_temp_id uuid,
    p_digest bytea, p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    p_reply_to bigint, p_attachments uuid[], p_thumbnail bytea, p_device uuid, p_is_quiet boolean,
    p_devices_version bigint, p_envelopes bytea, p_envelope_devices uuid[], p_envelope_ends bigint[],
    p_finds_devices boolean, p_follows bigint,
    out outcome text, out seq bigint, out id uuid, out created bigint, out device uuid, out quiet_count bigint,
    out recipients_version bigint, out participant_ids uuid[], out devices_version bigint, out refused_for uuid[],
    out control_seq bigint
) language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    conversation record;
    duplicate record;
    floor bigint;
    stamp timestamptz;
    silent boolean;
begin
    if p_lock_ms > 0 then
        select c.last_seq, c.floor_seq, c.active_at, c.quiet_count, c.last_quiet_at, c.recipients_version, c.direct_low,
               c.direct_high, c.low_blocks, c.high_blocks, c.is_closed, c.devices_version,
               c.control_seq
        into conversation from conversations c where c.id = p_conversation for no key update;
    else
        select c.last_seq, c.floor_seq, c.active_at, c.quiet_count, c.last_quiet_at, c.recipients_version, c.direct_low,
               c.direct_high, c.low_blocks, c.high_blocks, c.is_closed, c.devices_version,
               c.control_seq
        into conversation from conversations c where c.id = p_conversation for no key update skip locked;
        -- A condition with a query in it is a query as a whole, so it stands alone, here and below.
        if not found then
            if exists (select from conversations c where c.id = p_conversation) then
                outcome := 'locked';
                return;
            end if;
        end if;
    end if;
    recipients_version := conversation.recipients_version;
    if p_known_version <> recipients_version then
        participant_ids := (select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation);
    end if;
    select s.seq, s.message_id, s.created, s.digest = p_digest and s.conversation_id = p_conversation as same
    into duplicate
    from sends s where s.sender_id = p_sender and s.temp_id = p_temp_id;
    if found then
        outcome := case when duplicate.same then 'again' else 'conflict' end;
        seq := duplicate.seq;
        id := duplicate.message_id;
        created := (extract(epoch from duplicate.created) * 1000000)::bigint;
        select m.device_id, m.quiet_count into device, quiet_count
        from messages m where m.conversation_id = p_conversation and m.seq = duplicate.seq;
        return;
    end if;
    if conversation.is_closed then
        outcome := case when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_sender
        ) then 'closed' else 'stranger' end;
        return;
    end if;
    if p_attachments is not null then
        outcome := case when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_sender
        ) then 'stranger' else refused_attachment(p_sender, p_attachments, lock_attachments(p_attachments), null, null) end;
        if outcome is not null then
            return;
        end if;
    end if;
    if p_reply_to is not null then
        select greatest(p.joined_seq, conversation.floor_seq) into floor from participants p
        where p.conversation_id = p_conversation and p.user_id = p_sender;
        if found and (p_reply_to <= floor or p_reply_to > conversation.last_seq) then
            outcome := 'unknown';
            return;
        end if;
    end if;
    if p_follows <> conversation.control_seq or p_devices_version <> conversation.devices_version then
        if exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_sender
        ) then
            if p_follows <> conversation.control_seq then
                outcome := 'control';
                control_seq := conversation.control_seq;
                return;
            end if;
            outcome := 'devices';
            devices_version := conversation.devices_version;
            refused_for := changed_devices(p_conversation, p_devices_version, devices_version);
            return;
        end if;
    end if;
    if p_envelopes is not null and p_finds_devices then
        refused_for := unlisted_devices(p_conversation, p_envelope_devices);
        if refused_for is not null then
            outcome := 'unlisted';
            if not exists (
                select from participants p where p.conversation_id = p_conversation and p.user_id = p_sender
            ) then
                outcome := 'stranger';
                refused_for := null;
            end if;
            return;
        end if;
    end if;
    seq := conversation.last_seq + 1;
    -- A sender has accepted a request, and has read the conversation, unless the message is quiet: a client may send such
    -- a message by itself. With a request that it accepts, it publishes the delivered mark, as accept_request() does.
    update participants p
    set read_seq = greatest(p.read_seq, case when not p_is_quiet then send_one.seq end),
        delivered_seq = greatest(p.delivered_seq, case when not p_is_quiet then send_one.seq
                                                       when p.asked_by is not null then p.private_delivered_seq end),
        marked = case when p_is_quiet and p.asked_by is not null then pg_current_xact_id() else p.marked end,
        uncounted = case when p_is_quiet then p.uncounted else 0 end, written_seq = send_one.seq,
        own_changed = case when p.asked_by is not null then pg_current_xact_id() else p.own_changed end,
        asked_by = null, asked_seq = null
    where p.conversation_id = p_conversation and p.user_id = p_sender;
    if not found then
        outcome := 'stranger';
        seq := null;
        return;
    end if;
    silent := coalesce(conversation.low_blocks and p_sender = conversation.direct_high
                       or conversation.high_blocks and p_sender = conversation.direct_low, false);
    if silent then
        update participants p set uncounted = p.uncounted + (not p_is_quiet)::int, silenced = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id <> p_sender;
    end if;
    stamp := greatest(clock_timestamp(), conversation.active_at, conversation.last_quiet_at);
    quiet_count := conversation.quiet_count + p_is_quiet::int;
    insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce,
                          ephemeral_public_key, reply_to, is_silent, temp_id, device_id, is_quiet, quiet_count, attachments,
                          thumbnail, has_envelopes, follows)
    values (p_conversation, send_one.seq, p_id, p_sender, stamp, p_content_type, p_content, p_nonce,
            p_ephemeral_public_key, p_reply_to, silent, p_temp_id, p_device, p_is_quiet, send_one.quiet_count,
            p_attachments, p_thumbnail, p_envelopes is not null, p_follows);
    if p_attachments is not null then
        perform take_attachments(p_conversation, send_one.seq, p_attachments);
    end if;
    if p_envelopes is not null then
        insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)
        values (p_conversation, send_one.seq, 0, 0, p_envelope_devices, p_envelope_ends, p_envelopes, stamp);
    end if;
    insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    values (p_sender, p_temp_id, p_conversation, p_digest, send_one.seq, p_id, stamp);
    insert into outbox (conversation_id, seq, created) values (p_conversation, send_one.seq, stamp);
    if p_is_quiet then
        -- It moves the conversation in no list: the last message that lists show stays.
        update conversations c
        set last_seq = send_one.seq, changed = pg_current_xact_id(), quiet_count = send_one.quiet_count,
            shown_seq = coalesce(c.shown_seq, conversation.last_seq), last_quiet_at = stamp,
            control_seq = case when p_follows is null then c.control_seq else send_one.seq end
        where c.id = p_conversation;
    else
        update conversations c
        set last_seq = send_one.seq, active_at = stamp, changed = pg_current_xact_id(), shown_seq = null,
            control_seq = case when p_follows is null then c.control_seq else send_one.seq end
        where c.id = p_conversation;
    end if;
    outcome := case when silent then 'silent' else 'sent' end;
    id := p_id;
    created := (extract(epoch from stamp) * 1000000)::bigint;
end $$;
