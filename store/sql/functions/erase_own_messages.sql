-- A step of the deletion of an account: some messages of the user are deleted for everyone, in one conversation, on from
-- where the last step ended.
--
-- p_look_at: the most messages to look at, of all senders.
-- p_limit: the most messages to delete.
-- Returns how many were looked at; null: there are no more.
create or replace function erase_own_messages(p_user uuid, p_look_at int, p_limit int) returns bigint
language plpgsql as $$
declare
    deletion account_deletions;
    place uuid;
    conversation conversations;
    after bigint;
    own messages;
    upto bigint;
    found_here int := 0;
begin
    select * into deletion from account_deletions d where d.user_id = p_user for update;
    -- A conversation with a position at the end is done. Each stay of the user has a row in one of the three.
    select t.id into place from (
        select p.conversation_id as id from participants p where p.user_id = p_user
        union all select w.conversation_id from withheld w where w.user_id = p_user
        union all select d.conversation_id from departures d where d.user_id = p_user
    ) t
    where t.id > deletion.position_id or t.id = deletion.position_id and deletion.position_seq < 9223372036854775807
    order by t.id limit 1;
    if place is null then
        return null;
    end if;
    after := case when place = deletion.position_id then deletion.position_seq else 0 end;
    select * into conversation from conversations c where c.id = place for no key update;
    upto := least(after + p_look_at, conversation.last_seq);
    for own in
        select * from messages m
        where m.conversation_id = place and m.seq > after and m.seq <= upto and m.sender_id = p_user
          and m.deleted is null
        order by m.seq limit p_limit
    loop
        if found_here = 0 then
            perform note_deletion_step(p_user);
        end if;
        perform erase_message(conversation, own, null);
        found_here := found_here + 1;
    end loop;
    if found_here = p_limit then
        upto := own.seq;
    end if;
    update account_deletions d
    set position_id = place,
        position_seq = case when upto = conversation.last_seq then 9223372036854775807 else upto end
    where d.user_id = p_user;
    return greatest(upto - after, 1);
end $$;
