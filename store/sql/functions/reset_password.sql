-- A user sets another password by the token of a mail. All devices are logged out, other tokens are void, and a mail tells
-- the user.
--
-- p_source: of the security events (note_security_event).
-- outcome:
--   'reset'
--   'expired'
--   'unknown': no such token, or it is void
create or replace function reset_password(
    p_hash bytea, p_password_hash text, p_source jsonb, out outcome text
) language plpgsql as $$
declare
    reset password_resets;
begin
    select * into reset from password_resets r where r.token_hash = p_hash;
    -- The lock puts logins (add_device) and other resets of the user before or after this one.
    perform from users u where u.id = reset.user_id for update;
    select * into reset from password_resets r where r.token_hash = p_hash;
    outcome := case
        when not found then 'unknown'
        when reset.expires <= clock_timestamp() then 'expired'
        else 'reset' end;
    if outcome = 'reset' then
        update users u set password_hash = p_password_hash where u.id = reset.user_id;
        perform void_resets(reset.user_id);
        perform revoke_devices(reset.user_id, p_source => p_source);
        perform note_security_event('password_reset', reset.user_id, p_source);
        perform enqueue('password_changed', jsonb_build_object('user', reset.user_id));
    end if;
end $$;
