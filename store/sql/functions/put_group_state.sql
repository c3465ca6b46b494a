-- A participant puts the state of a conversation's cryptography after its last control message. The newest one stays; the
-- same bytes again change nothing. The lock of the participant puts it before or after a removal, and lets sends go on. The
-- conversation is not locked: a control message that comes meanwhile makes the state one of an earlier control message,
-- which no reader is shown.
--
-- outcome:
--   'put': stored, or stored already
--   'stranger': the user takes no part, or has not accepted
--   'conflict': p_control_seq is not that of the last control message
-- control_seq: of the last control message.
create or replace function put_group_state(
    p_user uuid, p_device uuid, p_conversation uuid, p_control_seq bigint, p_body bytea,
    out outcome text, out control_seq bigint
) language plpgsql as $$
#variable_conflict use_column
begin
    perform from participants p
    where p.conversation_id = p_conversation and p.user_id = p_user and p.asked_by is null for key share;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    insert into group_states as s (conversation_id, control_seq, user_id, device_id, body)
    select c.id, p_control_seq, p_user, p_device, p_body
    from conversations c where c.id = p_conversation and c.control_seq = p_control_seq
    on conflict (conversation_id) do update
    set control_seq = excluded.control_seq, revision = s.revision + 1, user_id = excluded.user_id,
        device_id = excluded.device_id, put = clock_timestamp(), body = excluded.body
    -- Another request may have put the state of a later control message while this one waited for the row.
    where s.control_seq < excluded.control_seq or s.control_seq = excluded.control_seq and s.body <> excluded.body;
    -- A statement of its own sees what has been committed meanwhile.
    select c.control_seq into control_seq from conversations c where c.id = p_conversation;
    outcome := case when control_seq = p_control_seq then 'put' else 'conflict' end;
end $$;
