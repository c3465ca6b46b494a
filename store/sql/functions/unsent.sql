-- Why a send of a batch was not stored, for send_batch(), which calls it in the statement that stores the others and says what
-- the columns mean: a retry has the first answer, all others a refusal. By itself, since few sends need it, and its tables
-- and columns made each batch dearer.
--
-- p_refused, p_unlisted: what is wrong with its attachments, and the devices that are not listed; null: nothing.
create or replace function unsent(
    p_conversation uuid, p_sender uuid, p_temp_id uuid, p_digest bytea, p_reply_to bigint, p_devices_version bigint,
    p_follows bigint, p_refused text, p_unlisted uuid[], p_is_locked boolean,
    out outcome text, out seq bigint, out id uuid, out created bigint, out device uuid, out quiet_count bigint,
    out recipients_version bigint, out devices_version bigint, out refused_for uuid[], out control_seq bigint
) language plpgsql stable as $$
declare
    duplicate record;
    present record;
begin
    recipients_version := (select c.recipients_version from conversations c where c.id = p_conversation);
    select s.seq, s.message_id, (extract(epoch from s.created) * 1000000)::bigint as created,
           s.digest = p_digest and s.conversation_id = p_conversation as same
    into duplicate
    from sends s where s.sender_id = p_sender and s.temp_id = p_temp_id;
    if found then
        outcome := case when duplicate.same then 'again' else 'conflict' end;
        seq := duplicate.seq;
        id := duplicate.message_id;
        created := duplicate.created;
        select m.device_id, m.quiet_count into device, quiet_count
        from messages m where m.conversation_id = p_conversation and m.seq = duplicate.seq;
        return;
    end if;
    if p_is_locked then
        outcome := 'locked';
        return;
    end if;
    select c.is_closed, c.last_seq, c.control_seq, c.devices_version, floor_of(c, p) as floor into present
    from conversations c join participants p on p.conversation_id = c.id
    where c.id = p_conversation and p.user_id = p_sender;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    outcome := case when present.is_closed then 'closed'
                    when p_refused is not null then p_refused
                    when p_reply_to <= present.floor or p_reply_to > present.last_seq then 'unknown'
                    when p_follows <> present.control_seq then 'control'
                    when p_devices_version <> present.devices_version then 'devices'
                    when p_unlisted is not null then 'unlisted'
                    else 'stranger' end;
    if outcome = 'control' then
        control_seq := present.control_seq;
    elsif outcome = 'devices' then
        devices_version := present.devices_version;
        refused_for := changed_devices(p_conversation, p_devices_version, devices_version);
    elsif outcome = 'unlisted' then
        refused_for := p_unlisted;
    end if;
end $$;
