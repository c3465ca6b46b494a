-- The first seq above p_floor whose message the snapshot does not see; one above the last seq if it sees all. It is
-- searched from the end in growing steps, then by halves: most devices have missed little.
create or replace function first_unseen(p_conversation uuid, p_floor bigint, p_snapshot pg_snapshot) returns bigint
language plpgsql stable as $$
declare
    -- The snapshot sees all messages up to the one, and none from the other on.
    seen bigint := p_floor;
    unseen bigint := 1 + (select c.last_seq from conversations c where c.id = p_conversation);
    step bigint := 1;
    probe bigint;
    below record;
begin
    while seen + 1 < unseen loop
        probe := greatest(unseen - step, (seen + unseen) / 2);
        step := step * 2;
        select m.seq, pg_visible_in_snapshot(m.added, p_snapshot) as is_seen into below
        from messages m where m.conversation_id = p_conversation and m.seq > seen and m.seq <= probe
        order by m.seq desc limit 1;
        if found and not below.is_seen then
            unseen := below.seq;
        else
            seen := probe;
        end if;
    end loop;
    return unseen;
end $$;
