-- Changes the password of a user. Returns false, and changes nothing, if it is not the old one any longer.
--
-- p_device: the device that has shown the old password, which confirms it.
-- p_ends_others: whether the user's other devices are revoked. If they stay, they have to show the new password before
--     they may do what needs it.
-- p_source: of the security events (note_security_event).
create or replace function change_password(
    p_user uuid, p_device uuid, p_old_hash text, p_new_hash text, p_ends_others boolean,
    p_source jsonb default '{"actor": "system"}'
) returns boolean language plpgsql as $$
begin
    -- A login or a confirmation with the old password locks the row, too: it is committed before this, and the
    -- statements below see its device, or it finds the new password.
    update users u set password_hash = p_new_hash where u.id = p_user and u.password_hash = p_old_hash;
    if not found then
        return false;
    end if;
    perform void_resets(p_user);
    perform enqueue('password_changed', jsonb_build_object('user', p_user))
    from emails e where e.user_id = p_user and e.verified is not null;
    update devices d set confirmed = case when d.id = p_device then clock_timestamp() else 'epoch' end
    where d.user_id = p_user and d.revoked is null;
    if p_ends_others then
        perform revoke_devices(p_user, p_except => p_device, p_source => p_source);
    end if;
    perform note_security_event(
        'password_changed', p_user, p_source, jsonb_build_object('ends_others', p_ends_others));
    return true;
end $$;
