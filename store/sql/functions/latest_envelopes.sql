-- The envelopes of a message as of a revision: each device with the bytes from the last part that names it. Two arrays of one
-- length, or two nulls.
create or replace function latest_envelopes(
    p_conversation uuid, p_seq bigint, p_revision int, out devices uuid[], out bodies bytea[]
) language plpgsql stable as $$
begin
    select array_agg(l.device), array_agg(l.body) into devices, bodies
    from (
        select distinct on (each.device) each.device,
               substring(e.body from (each.begins + 1)::int for (each.ends - each.begins)::int) as body
        from envelopes e
        -- The ends begin one place later than the begins, so the last row of the three arrays has no device.
        cross join lateral unnest(e.devices, array_prepend(0::bigint, e.ends), e.ends) each(device, begins, ends)
        where e.conversation_id = p_conversation and e.seq = p_seq and e.revision <= p_revision
          and each.device is not null
        order by each.device, e.part desc
    ) l;
end $$;
