-- Replaces the content of a message, and its attachments: those that it does not keep are orphaned. A quiet message stays
-- quiet, and any other does not become quiet.
--
-- p_revision: the revision that the client has edited.
-- p_device: the device that edits.
-- outcome:
--   'edited'
--   'again': a retry of this edit, also if later edits have followed
--   'stranger': p_user takes no part
--   'unknown': p_user may read no message with this seq
--   'foreign': p_user is not its sender
--   'deleted': it was deleted, for everyone or for p_user
--   'conflict': it has another revision
--   'unattachable', 'incomplete', 'used': it cannot have the attachments (refused_attachment)
--   'devices': p_devices_version is neither null nor the present version, which is in devices_version
--   'unlisted': some of p_envelope_devices are not of the conversation's device set
--   'full': the message has p_parts parts of envelopes, each with a device that no later one names
-- refused_for: of 'devices', the users whose devices have changed since the version given; of 'unlisted', these devices.
-- p_envelopes, p_envelope_devices, p_envelope_ends: as the columns of envelopes; null: the edit has none.
-- p_envelope_digest: of what these say.
-- has_envelopes: the message has some now. If the message was edited here, envelope_devices and
--     envelope_bodies have each device with its envelope.
-- participant_ids: the users to tell.
-- hidden_for: a blocker of the sender, who sees a tombstone from now on: nothing that a blocked user writes comes
--     through.
create or replace function edit_message(
    p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    p_attachments uuid[], p_thumbnail bytea, p_device uuid, p_devices_version bigint,
    p_envelopes bytea, p_envelope_devices uuid[], p_envelope_ends bigint[], p_envelope_digest bytea, p_parts int,
    out outcome text, out id uuid, out created bigint, out revision bigint, out edited bigint,
    out participant_ids uuid[], out reply_to bigint, out hidden_for uuid, out temp_id uuid,
    out is_quiet boolean, out quiet_count bigint,
    out devices_version bigint, out refused_for uuid[],
    out has_envelopes boolean, out follows bigint, out envelope_devices uuid[], out envelope_bodies bytea[]
) language plpgsql as $$
declare
    target record;
    old messages;
    digest bytea := edit_digest(
        p_content_type, p_content, p_nonce, p_ephemeral_public_key, p_attachments, p_thumbnail, p_envelope_digest);
    kept int;
    next_part int;
    stamp timestamptz;
begin
    select * into target from message_to_change(p_user, p_conversation, p_seq);
    old := target.message;
    outcome := case
        when (target.me).user_id is null then 'stranger'
        when old.id is null then 'unknown'
        when old.sender_id <> p_user then 'foreign'
        when old.deleted is not null then 'deleted'
        when exists (select from hidden h
                     where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = p_seq) then 'deleted'
        when old.revision = p_revision then 'edited'
        when old.revision = p_revision + 1
             and (old.content_type, old.content) = (p_content_type, p_content)
             and old.nonce is not distinct from p_nonce
             and old.ephemeral_public_key is not distinct from p_ephemeral_public_key
             and old.attachments is not distinct from p_attachments
             and old.thumbnail is not distinct from p_thumbnail
             -- Envelopes of the edit are known by its digest alone, as long as that is kept.
             and coalesce((
                 select r.digests[cardinality(r.digests)] from revisions r
                 where r.conversation_id = p_conversation and r.seq = p_seq
             ), digest) = digest then 'again'
        else 'conflict' end;
    stamp := old.edited;
    if outcome = 'conflict' and old.revision > p_revision + 1 then
        -- The newest edit is the last of the array. This edit lies before it by the number of revisions since.
        select r.edited[cardinality(r.edited) - (old.revision - p_revision - 1)] into stamp
        from revisions r
        where r.conversation_id = p_conversation and r.seq = p_seq
          and r.digests[cardinality(r.digests) - (old.revision - p_revision - 1)] = digest;
        if found then
            outcome := 'again';
        end if;
    end if;
    if outcome = 'edited' and p_attachments is not null then
        outcome := coalesce(
            refused_attachment(p_user, p_attachments, lock_attachments(p_attachments), p_conversation, p_seq), outcome);
    end if;
    if outcome = 'edited' and p_devices_version <> (target.conversation).devices_version then
        outcome := 'devices';
        devices_version := (target.conversation).devices_version;
        refused_for := changed_devices(p_conversation, p_devices_version, devices_version);
    end if;
    if outcome = 'edited' and p_envelope_devices is not null then
        refused_for := unlisted_devices(p_conversation, p_envelope_devices);
        -- Parts whose devices all get another envelope now go.
        select count(*) filter (where not e.devices <@ p_envelope_devices), coalesce(max(e.part) + 1, 0)
        into kept, next_part
        from envelopes e where e.conversation_id = p_conversation and e.seq = p_seq;
        outcome := case when refused_for is not null then 'unlisted' when kept >= p_parts then 'full' else outcome end;
    end if;
    if outcome = 'edited' then
        stamp := greatest(clock_timestamp(), old.created, old.edited);
        update messages m
        set content_type = p_content_type, content = p_content, nonce = p_nonce,
            ephemeral_public_key = p_ephemeral_public_key, attachments = p_attachments, thumbnail = p_thumbnail,
            device_id = p_device, revision = old.revision + 1, edited = stamp,
            has_envelopes = old.has_envelopes or p_envelope_devices is not null
        where m.conversation_id = p_conversation and m.seq = p_seq;
        if old.attachments is not null then
            update attachments a set conversation_id = null, seq = null
            where a.conversation_id = p_conversation and a.seq = p_seq
              and coalesce(a.thumbnail_of, a.id) <> all(coalesce(p_attachments, '{}'));
        end if;
        if p_attachments is not null then
            perform take_attachments(p_conversation, p_seq, p_attachments);
        end if;
        if p_envelope_devices is not null then
            delete from envelopes e
            where e.conversation_id = p_conversation and e.seq = p_seq and e.devices <@ p_envelope_devices;
            insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)
            values (p_conversation, p_seq, next_part, old.revision + 1, p_envelope_devices, p_envelope_ends, p_envelopes,
                    stamp);
        end if;
        perform note_revision(p_conversation, p_seq, digest, stamp);
        insert into hidden (user_id, conversation_id, seq)
        select p.user_id, p_conversation, p_seq from participants p
        where p.conversation_id = p_conversation and p.user_id <> p_user and not old.is_silent
          and is_blocker(target.conversation, p.user_id)
        on conflict do nothing
        returning hidden.user_id into hidden_for;
        if not old.is_quiet then
            perform note_uncounted(p_conversation, p_seq, array[hidden_for]);
        end if;
        participant_ids := array(select h.user_id from holders_of(target.conversation, old) h);
        if old.has_envelopes or p_envelope_devices is not null then
            select l.devices, l.bodies into envelope_devices, envelope_bodies
            from latest_envelopes(p_conversation, p_seq, old.revision + 1) l;
        end if;
    end if;
    id := old.id;
    reply_to := old.reply_to;
    temp_id := old.temp_id;
    is_quiet := old.is_quiet;
    quiet_count := old.quiet_count;
    follows := old.follows;
    has_envelopes := old.has_envelopes or p_envelope_devices is not null;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    revision := p_revision + 1;
    edited := (extract(epoch from stamp) * 1000000)::bigint;
end $$;
