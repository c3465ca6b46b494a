-- The direct conversation of two users, which is made if there is none. The other user is asked to accept it unless
-- p_user is their contact. If the other user blocks p_user, the other user is withheld from it, and p_user sees no
-- difference.
--
-- p_limit: how many conversations with strangers p_user may begin in 24 hours.
-- outcome:
--   'made'
--   'found'
--   'opened': p_user was withheld from it and takes part now
--   'unknown': p_other does not exist, or is deleted
--   'refused': p_other takes no messages from p_user
--   'limited': p_user has begun p_limit conversations; the next may begin in wait_s seconds
--   'ended': p_user was deleted since the request began
create or replace function add_direct(
    p_conversation uuid, p_user uuid, p_other uuid, p_limit int,
    out outcome text, out conversation uuid, out wait_s float8
) language plpgsql as $$
declare
    low uuid := least(p_user, p_other);
    high uuid := greatest(p_user, p_other);
    is_known boolean;
    setting text;
begin
    select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
    if not found then
        perform lock_starts(p_user, false);
        perform lock_pair(p_user, p_other);
        perform lock_device_set(u, false) from unnest(array[low, high]) u;
        select c.id into conversation from conversations c where c.direct_low = low and c.direct_high = high;
    end if;
    if found then
        if exists (select from withheld w where w.conversation_id = add_direct.conversation and w.user_id = p_user) then
            perform from conversations c where c.id = add_direct.conversation for no key update;
            outcome := case when open_withheld(conversation, p_user) then 'opened' else 'found' end;
        else
            outcome := 'found';
        end if;
        return;
    end if;
    -- The locks put this before or after the deletion of either account (anonymise_user).
    perform from users u where u.id = p_user and u.deleted is null for key share;
    if not found then
        outcome := 'ended';
        return;
    end if;
    select u.messages_from into setting from users u where u.id = p_other and u.deleted is null for key share;
    is_known := has_added(p_other, p_user);
    if setting is null then
        outcome := 'unknown';
        return;
    elsif not takes_from(setting, is_known) then
        outcome := 'refused';
        return;
    elsif not is_known then
        wait_s := count_start(p_user, p_limit);
        if wait_s is not null then
            outcome := 'limited';
            return;
        end if;
    end if;
    outcome := 'made';
    conversation := p_conversation;
    insert into conversations as c (id, kind, direct_low, direct_high, low_blocks, high_blocks)
    values (p_conversation, 'direct', low, high, is_blocked(low, high), is_blocked(high, low));
    insert into participants (conversation_id, user_id) values (p_conversation, p_user);
    if is_blocked(p_other, p_user) then
        insert into withheld (conversation_id, user_id) values (p_conversation, p_other);
    else
        insert into participants (conversation_id, user_id, asked_by, asked_seq)
        values (p_conversation, p_other, case when not is_known then p_user end, case when not is_known then 0 end);
    end if;
end $$;
