-- outcome: 'changed', 'again', 'unknown' (no such user). What was unread of who is blocked counts as read, on all
-- devices.
create or replace function set_blocked(p_user uuid, p_other uuid, p_is_blocked boolean, out outcome text) language plpgsql as $$
declare
    conversation uuid;
begin
    perform lock_pair(p_user, p_other);
    if not exists (select from users u where u.id = p_other) or p_user = p_other then
        outcome := 'unknown';
        return;
    end if;
    if p_is_blocked = coalesce(
        (select c.is_blocked from contacts c where c.user_id = p_user and c.contact_id = p_other), false)
    then
        outcome := 'again';
        return;
    end if;
    insert into contacts (user_id, contact_id, is_blocked) values (p_user, p_other, p_is_blocked)
    on conflict (user_id, contact_id) do update set is_blocked = excluded.is_blocked;
    update conversations c
    set low_blocks = case when c.direct_low = p_user then p_is_blocked else c.low_blocks end,
        high_blocks = case when c.direct_high = p_user then p_is_blocked else c.high_blocks end,
        changed = pg_current_xact_id()
    where c.direct_low = least(p_user, p_other) and c.direct_high = greatest(p_user, p_other)
    returning c.id into conversation;
    if p_is_blocked then
        update participants p
        set private_read_seq = (select c.last_seq from conversations c where c.id = conversation),
            uncounted = 0, marked = pg_current_xact_id()
        where p.conversation_id = conversation and p.user_id = p_user;
    end if;
    outcome := 'changed';
end $$;
