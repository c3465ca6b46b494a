-- The users whose devices have changed in a conversation since a version of its device set, the last change first. If there
-- are more of them than can take part, the conversation holds rows of users who have left: only those that take part, as
-- they are shown. If the version is greater than the present one, as after a fail-over that has lost it: all of those.
create or replace function changed_devices(p_conversation uuid, p_known bigint, p_present bigint) returns uuid[]
language sql stable as $$
    select case when p_known > p_present then array(
        select p.user_id from shown_participants p where p.conversation_id = p_conversation order by p.user_id
    ) else array(
        select c.user_id from (
            select d.user_id, d.version, count(*) over () as count
            from device_changes d where d.conversation_id = p_conversation and d.version > p_known
        ) c
        where c.count <= 1000 or exists (
            select from shown_participants p where p.conversation_id = p_conversation and p.user_id = c.user_id)
        order by c.version desc, c.user_id limit 1000
    ) end
$$;
