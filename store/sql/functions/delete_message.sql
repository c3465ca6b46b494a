-- Deletes a message for everyone: its content is erased, and a tombstone stays. The sender may do it, and in a group an
-- administrator, whom the tombstone names. See erase_message().
--
-- outcome:
--   'deleted'
--   'again': it was deleted already
--   'stranger': p_user takes no part
--   'unknown': p_user may read no message with this seq
--   'foreign': p_user is neither its sender nor an administrator
-- participant_ids: the users to tell.
-- actor: the administrator whom the tombstone names.
create or replace function delete_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid, out participant_ids uuid[], out actor uuid,
    out is_quiet boolean, out quiet_count bigint
) language plpgsql as $$
declare
    target record;
    old messages;
begin
    select * into target from message_to_change(p_user, p_conversation, p_seq);
    old := target.message;
    outcome := case
        when (target.me).user_id is null then 'stranger'
        when old.id is null then 'unknown'
        when old.sender_id <> p_user and (target.me).role <> 'admin' then 'foreign'
        when old.deleted is not null then 'again'
        else 'deleted' end;
    if outcome = 'deleted' then
        participant_ids := erase_message(target.conversation, old, nullif(p_user, old.sender_id));
        actor := nullif(p_user, old.sender_id);
    else
        actor := shown_deleter(old.deleted_by, p_conversation, p_seq, p_user);
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
    is_quiet := old.is_quiet;
    quiet_count := old.quiet_count;
end $$;
