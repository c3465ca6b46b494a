-- Gives a device a new token, for one that it shows. The new one counts from its first use (show_token).
--
-- p_new_hash: of the new token.
-- p_lifetime_s: how long the device's tokens are good, from now.
-- p_overlap_s: see show_token().
-- p_most: new tokens that are kept until one is used: a reply may be lost, and come later than that to a second try.
-- state: 'renewed'; any other is that of the token shown, and nothing was renewed.
-- expires, at: when the device's tokens expire, and the time, in microseconds since 1970.
create or replace function renew_token(
    p_device uuid, p_family_hash bytea, p_token_hash bytea, p_new_hash bytea, p_lifetime_s float8, p_overlap_s float8,
    p_most int, out state text, out expires bigint, out at bigint
) language plpgsql as $$
begin
    if not exists (select from devices d where d.id = p_device and d.family_hash = p_family_hash) then
        state := 'unknown';
        return;
    end if;
    state := show_token(p_family_hash, p_token_hash, p_overlap_s);
    if state = 'current' then
        update devices d
        set next_hashes = (p_new_hash || d.next_hashes)[:p_most], history = history_number(),
            expires = clock_timestamp() + make_interval(secs => p_lifetime_s)
        where d.id = p_device
        returning 'renewed', (extract(epoch from d.expires) * 1000000)::bigint,
                  (extract(epoch from clock_timestamp()) * 1000000)::bigint
        into state, expires, at;
    end if;
end $$;
