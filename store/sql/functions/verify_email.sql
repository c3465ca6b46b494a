-- A user shows the token that was sent to an address. A repeat changes nothing.
--
-- p_user: whose device shows it, or null. Any token that went to the address of this user verifies it, also one that a
--     different user has asked for. Else the token verifies the address of the user that has asked for it.
-- p_source: of the security event (note_security_event).
-- outcome:
--   'verified'
--   'expired'
--   'unknown': no such token, or the address has changed since
create or replace function verify_email(p_hash bytea, p_user uuid, p_source jsonb, out outcome text)
language plpgsql as $$
declare
    old emails;
    token_expires timestamptz;
begin
    select e.* into old from emails e join sent_verifications s on s.token_hash = p_hash
    where e.user_id = p_user and s.address_hash = sha256(convert_to(e.address, 'UTF8')) for update of e;
    if found then
        token_expires := (select s.expires from sent_verifications s where s.token_hash = p_hash);
    else
        select * into old from emails e where e.verification_hash = p_hash for update;
        token_expires := old.verification_expires;
    end if;
    outcome := case
        when token_expires is null then 'unknown'
        when old.verified is null and token_expires <= clock_timestamp() then 'expired'
        else 'verified' end;
    if outcome = 'verified' and old.verified is null then
        update emails e
        set verified = clock_timestamp(),
            next_digest = case when e.wants_digest then digest_after(e.digest_hour, e.zone, clock_timestamp()) end
        where e.user_id = old.user_id;
        perform note_security_event('email_verified', old.user_id, p_source);
    end if;
end $$;
