-- A user shows the token that was sent to an address. A repeat changes nothing.
--
-- p_source: of the security event (note_security_event).
-- outcome:
--   'verified'
--   'expired'
--   'unknown': no such token
create or replace function verify_email(p_hash bytea, p_source jsonb, out outcome text) language plpgsql as $$
declare
    old emails;
begin
    select * into old from emails e where e.verification_hash = p_hash for update;
    outcome := case
        when not found then 'unknown'
        when old.verified is null and old.verification_expires <= clock_timestamp() then 'expired'
        else 'verified' end;
    if outcome = 'verified' and old.verified is null then
        update emails e
        set verified = clock_timestamp(),
            next_digest = case when e.wants_digest then digest_after(e.digest_hour, e.zone, clock_timestamp()) end
        where e.user_id = old.user_id;
        perform note_security_event('email_verified', old.user_id, p_source);
    end if;
end $$;
