-- An operator suspends a user, or lifts that: no device logs in, and the tokens of the devices are refused, until it is
-- lifted. Nothing is deleted. Returns false, and changes nothing, if it is so already.
--
-- p_source: of the security event (note_security_event).
create or replace function set_suspended(p_user uuid, p_is_suspended boolean, p_source jsonb) returns boolean
language plpgsql as $$
begin
    -- A login (add_device) takes a lock that waits for this one: it comes before, and its device is suspended here, or
    -- it finds the user suspended.
    update users u set suspended = case when p_is_suspended then clock_timestamp() end
    where u.id = p_user and u.deleted is null and (u.suspended is not null) <> p_is_suspended;
    if not found then
        return false;
    end if;
    update devices d set is_suspended = p_is_suspended where d.user_id = p_user and d.is_suspended <> p_is_suspended;
    perform note_security_event(
        case when p_is_suspended then 'account_suspended' else 'account_unsuspended' end, p_user, p_source);
    return true;
end $$;
