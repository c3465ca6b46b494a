-- The consequences of showing a token: the first use of a new one ends all others of its device, and one that has ended
-- revokes the device (decision 35). Returns the state of the token after that, as token_state() names it, or 'unknown'.
--
-- p_overlap_s: how long the token before stays good.
create or replace function show_token(p_family_hash bytea, p_token_hash bytea, p_overlap_s float8) returns text
language plpgsql as $$
declare
    shown devices;
    state text;
begin
    select * into shown from devices d where d.family_hash = p_family_hash for no key update;
    if not found then
        return 'unknown';
    end if;
    state := token_state(shown, p_token_hash);
    if state = 'next' then
        update devices d
        set token_hash = p_token_hash, next_hashes = '{}', former_hash = d.token_hash,
            former_until = clock_timestamp() + make_interval(secs => p_overlap_s), history = history_number()
        where d.id = shown.id;
        return 'current';
    elsif state = 'ended' and shown.history is distinct from history_number() then
        -- The database was restored, and has forgotten tokens that it issued: the first that is shown counts.
        update devices d
        set token_hash = p_token_hash, next_hashes = '{}', former_hash = null, former_until = null,
            history = history_number()
        where d.id = shown.id;
        return 'current';
    elsif state = 'ended' then
        update devices d set revoked = clock_timestamp(), is_reused = true where d.id = shown.id;
        delete from notifiers n where n.device_id = shown.id;
        perform enqueue('token_reused', jsonb_build_object('user', shown.user_id, 'device', shown.id))
        from emails e where e.user_id = shown.user_id and e.verified is not null and e.wants_device_notice;
        perform note_security_event(
            'token_reused', shown.user_id, '{"actor": "system"}',
            jsonb_build_object('device', shown.id, 'name', shown.name));
        return 'reused';
    end if;
    return state;
end $$;
