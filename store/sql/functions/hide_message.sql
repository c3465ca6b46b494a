-- Deletes a message for one user.
-- outcome:
--   'deleted'
--   'again': it was deleted already
--   'stranger': the user takes no part
--   'unknown': the user may read no message with this seq
-- actor: the administrator who deleted it for everyone before.
create or replace function hide_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid, out actor uuid, out is_quiet boolean,
    out quiet_count bigint
) language plpgsql as $$
declare
    target record;
    old messages;
begin
    -- The lock keeps others from deleting it for everyone meanwhile: it stops counting as unread only once.
    select * into target from message_to_change(p_user, p_conversation, p_seq);
    old := target.message;
    if old.id is null then
        outcome := case when (target.me).user_id is null then 'stranger' else 'unknown' end;
        return;
    end if;
    perform from participants p where p.conversation_id = p_conversation and p.user_id = p_user for no key update;
    outcome := 'again';
    if old.deleted is null then
        insert into hidden (user_id, conversation_id, seq) values (p_user, p_conversation, p_seq)
        on conflict do nothing;
        if found then
            outcome := 'deleted';
            update participants p set own_marked = pg_current_xact_id()
            where p.conversation_id = p_conversation and p.user_id = p_user;
            if not old.is_silent and not old.is_quiet then
                perform note_uncounted(p_conversation, p_seq, array[p_user]);
            end if;
        end if;
    end if;
    actor := shown_deleter(old.deleted_by, p_conversation, p_seq, p_user);
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
    is_quiet := old.is_quiet;
    quiet_count := old.quiet_count;
end $$;
