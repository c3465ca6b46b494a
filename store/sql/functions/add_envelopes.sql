-- Gives devices envelopes for a message that was sent before: it stays as it is, but for its envelopes.
--
-- p_device: the device that adds them.
-- p_revision: of the message, as that device knows it.
-- p_envelopes, p_devices, p_ends: as the columns of envelopes.
-- outcome:
--   'added'
--   'again': the message has these envelopes already, or they may not reach the other user, who is not to be told why
--   'stranger', 'unknown', 'deleted', 'conflict': as of edit_message()
--   'foreign': another device wrote the content, whose sessions the receivers use
--   'unlisted': some of the devices are not of the conversation's device set, and are in refused_for
--   'full': the message has p_parts parts of envelopes, each with a device that no later one names
-- message: as it is. participant_ids: the users of the devices, who are told. envelope_devices, envelope_bodies: all that the
--     message has, as of latest_envelopes().
create or replace function add_envelopes(
    p_user uuid, p_device uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_envelopes bytea, p_devices uuid[], p_ends bigint[], p_parts int,
    out outcome text, out message messages, out participant_ids uuid[], out envelope_devices uuid[],
    out envelope_bodies bytea[], out refused_for uuid[]
) language plpgsql as $$
declare
    target record;
    old messages;
    kept int;
    next_part int;
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
        when old.device_id is distinct from p_device then 'foreign'
        when old.revision <> p_revision then 'conflict'
        when (target.conversation).low_blocks or (target.conversation).high_blocks then 'again'
        when exists (select from envelopes e
                     where e.conversation_id = p_conversation and e.seq = p_seq and e.revision = p_revision
                       and e.devices = p_devices and e.ends = p_ends and e.body = p_envelopes) then 'again'
        else 'added' end;
    if outcome = 'added' then
        refused_for := unlisted_devices(p_conversation, p_devices);
        select count(*) filter (where not e.devices <@ p_devices), coalesce(max(e.part) + 1, 0) into kept, next_part
        from envelopes e where e.conversation_id = p_conversation and e.seq = p_seq;
        outcome := case when refused_for is not null then 'unlisted' when kept >= p_parts then 'full' else outcome end;
    end if;
    if outcome = 'added' then
        delete from envelopes e where e.conversation_id = p_conversation and e.seq = p_seq and e.devices <@ p_devices;
        insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)
        values (p_conversation, p_seq, next_part, p_revision, p_devices, p_ends, p_envelopes, clock_timestamp());
        if not old.has_envelopes then
            update messages m set has_envelopes = true where m.conversation_id = p_conversation and m.seq = p_seq;
            old.has_envelopes := true;
        end if;
        -- Devices find the envelopes as they find an edit; no edit is forgotten or added.
        insert into revisions (conversation_id, seq) values (p_conversation, p_seq)
        on conflict (conversation_id, seq) do update set changed = excluded.changed, at = excluded.at;
        update conversations c set changed = pg_current_xact_id(), revised = pg_current_xact_id() where c.id = p_conversation;
        update undecryptable u set is_healed = true
        where u.conversation_id = p_conversation and u.seq = p_seq and u.device_id = any(p_devices);
        participant_ids := array(
            select h.user_id from holders_of(target.conversation, old) h
            where h.user_id in (select d.user_id from devices d where d.id = any(p_devices)));
        select l.devices, l.bodies into envelope_devices, envelope_bodies
        from latest_envelopes(p_conversation, p_seq, old.revision) l;
    end if;
    message := old;
end $$;
