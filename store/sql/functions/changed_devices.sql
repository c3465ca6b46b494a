-- The users whose devices have changed in a conversation since a version of its device set, the last change first. If the
-- conversation has never had that version, or has lost it in a fail-over: all that take part, as they are shown.
create or replace function changed_devices(p_conversation uuid, p_known bigint, p_present bigint) returns uuid[]
language sql stable as $$
    select case when p_known > p_present then array(
        select p.user_id from shown_participants p where p.conversation_id = p_conversation order by p.user_id
    ) else array(
        select d.user_id from device_changes d where d.conversation_id = p_conversation and d.version > p_known
        order by d.version desc, d.user_id limit 1000
    ) end
$$;
