-- The direct conversation of two users: made if there is none.
create or replace function add_direct(
    p_conversation uuid, p_user uuid, p_other uuid, out conversation uuid, out is_new boolean
) language plpgsql as $$
declare
    low uuid := least(p_user, p_other);
    high uuid := greatest(p_user, p_other);
begin
    select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
    is_new := not found;
    if is_new then
        perform lock_pair(p_user, p_other);
        insert into conversations as c (id, kind, direct_low, direct_high, low_blocks, high_blocks)
        values (p_conversation, 'direct', low, high,
                exists (select from contacts b where b.user_id = low and b.contact_id = high and b.is_blocked),
                exists (select from contacts b where b.user_id = high and b.contact_id = low and b.is_blocked))
        on conflict on constraint conversations_direct do nothing
        returning c.id into conversation;
        is_new := found;
        if is_new then
            insert into participants (conversation_id, user_id) values (p_conversation, low), (p_conversation, high);
        else
            select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
        end if;
    end if;
end $$;
