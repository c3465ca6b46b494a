-- Whether a token that went to this address, for whichever user, is good for p_margin_s longer.
create or replace function has_sent_verification(p_address text, p_margin_s float8) returns boolean
language sql stable as $$
    select exists (
        select from sent_verifications s
        where s.address_hash = sha256(convert_to(p_address, 'UTF8'))
          and s.expires > clock_timestamp() + make_interval(secs => p_margin_s)
    )
$$;
