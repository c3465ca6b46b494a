-- The state of a token of a device's family:
--   'current': the token that was shown last of those that were new then
--   'next': new, and not shown yet
--   'former': the one before; requests with it may be under way
--   'ended': none of these
--   'expired', 'revoked', 'reused': so is the device
--   'suspended': so is its user
create or replace function token_state(d devices, p_token_hash bytea) returns text language sql stable as $$
    select case
        when d.is_reused then 'reused'
        when d.revoked is not null then 'revoked'
        when d.expires <= now() then 'expired'
        when d.is_suspended then 'suspended'
        when d.token_hash = p_token_hash then 'current'
        when p_token_hash = any(d.next_hashes) then 'next'
        when d.former_hash = p_token_hash and d.former_until > now() then 'former'
        else 'ended' end
$$;
