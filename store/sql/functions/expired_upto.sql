-- The last message above p_floor that was created at p_until or before; p_floor if there is none. It is searched from
-- the floor in growing steps, then by halves: usually few messages have expired.
create or replace function expired_upto(p_conversation uuid, p_floor bigint, p_last bigint, p_until timestamptz)
returns bigint language plpgsql stable as $$
declare
    expired bigint := p_floor;  -- all up to it are
    living bigint := p_last + 1;  -- from it on none is
    step bigint := 1;
    probe bigint;
    above record;
begin
    while expired + 1 < living loop
        probe := least(expired + step, (expired + living) / 2);
        step := step * 2;
        select m.seq, m.created <= p_until as is_expired into above
        from messages m where m.conversation_id = p_conversation and m.seq >= probe and m.seq < living
        order by m.seq limit 1;
        if found and above.is_expired then
            expired := above.seq;
        else
            living := probe;
        end if;
    end loop;
    return expired;
end $$;
