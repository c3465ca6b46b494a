-- A step of the deletion of an account: the user leaves some groups, and the conversation of the user's own devices, and the other user of some direct conversations can
-- send no more. A direct conversation keeps its participants: the other user sees a deleted user there.
--
-- p_limit: the most conversations.
-- Returns how many; 0: none is left.
create or replace function leave_conversations(p_user uuid, p_limit int) returns bigint language plpgsql as $$
declare
    conversation conversations;
    place uuid;
    done bigint := 0;
begin
    for place in
        select c.id from (
            select p.conversation_id as id from participants p where p.user_id = p_user
            union all select w.conversation_id from withheld w where w.user_id = p_user
        ) t
        -- The limit makes Postgres look up each by its key: without statistics it would read the whole table.
        cross join lateral (select c.* from conversations c where c.id = t.id limit 1) c
        -- The deletion of the other user has closed a direct conversation, and left what is in it to this user.
        where c.kind <> 'direct' or not c.is_closed
              or (c.floor_seq < c.last_seq or exists (select from group_states s where s.conversation_id = c.id))
                 and exists (
                     select from users u
                     where u.id in (c.direct_low, c.direct_high) and u.id <> p_user and u.deleted is not null)
        order by c.id limit p_limit
    loop
        if done = 0 then
            perform note_deletion_step(p_user);
        end if;
        done := done + 1;
        -- In the order of their ids, as every transaction locks them.
        select * into conversation from conversations c where c.id = place for no key update;
        if conversation.kind <> 'direct' then
            -- An administrator may have removed the user meanwhile.
            perform end_stay(conversation, p_user, null)
            from shown_participants p where p.conversation_id = place and p.user_id = p_user;
            if not exists (select from shown_participants p where p.conversation_id = place) then
                perform abandon_conversation(place);
            end if;
        else
            update conversations c set is_closed = true where c.id = place;
            if exists (
                select from users u
                where u.id in (conversation.direct_low, conversation.direct_high) and u.id <> p_user
                  and u.deleted is not null
            ) then
                perform abandon_conversation(place);
            end if;
        end if;
    end loop;
    return done;
end $$;
