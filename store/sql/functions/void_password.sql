-- An operator voids the password of a user, who sets another one by a link: all devices are logged out, and links of
-- before are void. Returns the token of the link; null, and changes nothing, if the user has no password.
--
-- p_lifetime_s: how long the link is good.
-- p_source: of the security events (note_security_event).
create or replace function void_password(p_user uuid, p_lifetime_s float8, p_source jsonb) returns bytea
language plpgsql as $$
declare
    reset uuid := gen_random_uuid();
    token bytea := mail_token(reset, 'reset');
begin
    -- The lock puts logins (add_device) and other resets of the user before or after this one. No password fits an
    -- empty hash.
    update users u set password_hash = '' where u.id = p_user and u.password_hash is not null;
    if not found then
        return null;
    end if;
    perform void_resets(p_user);
    perform revoke_devices(p_user, p_source => p_source);
    -- As if the user had asked: a link of a stranger would keep the user from asking for a mail.
    insert into password_resets (id, user_id, token_hash, is_own, expires)
    values (reset, p_user, sha256(token), true, clock_timestamp() + make_interval(secs => p_lifetime_s));
    perform note_security_event('password_voided', p_user, p_source);
    return token;
end $$;
