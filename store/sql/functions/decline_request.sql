-- A user declines a request: nothing of the conversation comes from now on, and the others are not told.
-- outcome:
--   'declined'
--   'stranger': the user takes no part
--   'accepted': it is not a request
create or replace function decline_request(
    p_user uuid, p_conversation uuid, out outcome text, out participants_version bigint
) language plpgsql as $$
begin
    select c.participants_version into participants_version
    from conversations c where c.id = p_conversation for no key update;
    outcome := coalesce((
        select case when p.asked_by is null then 'accepted' else 'declined' end
        from participants p where p.conversation_id = p_conversation and p.user_id = p_user for no key update
    ), 'stranger');
    if outcome = 'declined' then
        perform withhold(p_conversation, p_user);
    end if;
end $$;
