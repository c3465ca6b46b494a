-- A page of the devices with an identity of those users, among some, whose devices a user may see (key_owners): those
-- after a device, in the order of their ids. An identity is null from the device on that no longer fits into the bytes of
-- the page, but for the first. A function, so that its plan is kept: planning would take longer than reading.
create or replace function list_devices(
    p_user uuid, p_users uuid[], p_after uuid, p_limit bigint, p_bytes bigint
) returns table (owner_id uuid, device uuid, identity bytea, identity_revision int)
language plpgsql stable set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
    return query
    select f.user_id, f.id, case when f.fits then f.identity end, f.identity_revision
    from (
        select d.user_id, d.id, d.identity, d.identity_revision,
               sum(octet_length(d.identity)) over (order by d.id) - octet_length(d.identity) < p_bytes as fits
        from key_owners(array[p_user], array_fill(1::bigint, array[cardinality(p_users)]), p_users) o
        -- The limit, which no user comes near to, makes Postgres look up the devices of each user.
        cross join lateral (
            select d.user_id, d.id, d.identity, d.identity_revision from devices d
            where d.user_id = o.user_id and d.identity is not null and d.id > p_after limit 1000
        ) d
    ) f
    order by f.id limit p_limit;
end $$;
