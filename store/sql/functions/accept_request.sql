-- A user accepts a request and takes part like every participant. From now on the others see how far messages were
-- delivered.
-- outcome:
--   'accepted'
--   'again': it is not a request
--   'stranger': the user takes no part in the conversation
-- participant_ids: with 'accepted', all participants.
create or replace function accept_request(
    p_user uuid, p_conversation uuid,
    out outcome text, out participant_ids uuid[], out participants_version bigint
) language plpgsql as $$
begin
    select c.participants_version into participants_version
    from conversations c where c.id = p_conversation for no key update;
    update participants p
    set asked_by = null, asked_seq = null, delivered_seq = greatest(p.delivered_seq, p.private_delivered_seq),
        marked = pg_current_xact_id(), own_changed = pg_current_xact_id()
    where p.conversation_id = p_conversation and p.user_id = p_user and p.asked_by is not null;
    outcome := case
        when found then 'accepted'
        when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'again'
        else 'stranger' end;
    if outcome = 'accepted' then
        participant_ids := (select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation);
    end if;
end $$;
