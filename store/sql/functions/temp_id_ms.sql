-- The time in a temp_id that is a UUID of version 7 (RFC 9562), in milliseconds since 1970; null in any other.
create or replace function temp_id_ms(temp_id uuid) returns bigint language sql immutable parallel safe as $$
    select case when get_byte(b, 6) >> 4 = 7 and get_byte(b, 8) >> 6 = 2 then
        (get_byte(b, 0)::bigint << 40) | (get_byte(b, 1)::bigint << 32) | (get_byte(b, 2)::bigint << 24)
        | (get_byte(b, 3)::bigint << 16) | (get_byte(b, 4)::bigint << 8) | get_byte(b, 5)
    end from uuid_send(temp_id) b
$$;
