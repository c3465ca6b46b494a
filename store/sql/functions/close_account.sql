-- A user, or an operator, asks to delete the account: all devices are logged out at once, notifiers go, and after
-- p_delay_s seconds a job deletes the account (store/account_deletions.py). Until then a login may keep it.
--
-- p_deletes_messages: whether the user's messages are deleted for everyone.
-- p_source: of the security events (note_security_event).
-- due: when the account is deleted, in microseconds since 1970; a repeat moves it to no later time.
create or replace function close_account(
    p_user uuid, p_delay_s float8, p_deletes_messages boolean, p_source jsonb, out due bigint
)
language plpgsql as $$
declare
    former timestamptz;
    set_to timestamptz;
begin
    -- A login (add_device) takes a lock that waits for this one: it comes before, and its device is logged out here, or
    -- it finds the account closed.
    perform from users u where u.id = p_user for update;
    update users u set is_closed = true where u.id = p_user and not u.is_closed;
    select d.due into former from account_deletions d where d.user_id = p_user;
    insert into account_deletions as d (user_id, due, deletes_messages)
    values (p_user, clock_timestamp() + make_interval(secs => p_delay_s), p_deletes_messages)
    on conflict (user_id) do update
    set deletes_messages = excluded.deletes_messages, due = least(d.due, excluded.due)
    returning d.due into set_to;
    due := (extract(epoch from set_to) * 1000000)::bigint;
    if former is null or set_to < former then
        perform note_security_event('account_closed', p_user, p_source);
    end if;
    delete from notifiers n where n.user_id = p_user;
    perform revoke_devices(p_user, p_source => p_source);
    perform enqueue('account_closed', jsonb_build_object('user', p_user), p_key => p_user::text)
    from emails e where e.user_id = p_user and e.verified is not null;
end $$;
