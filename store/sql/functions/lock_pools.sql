-- Locks the pools that a claim needs (claim_keys), one after the other, in the order in which uploads lock those of a device.
create or replace function lock_pools(
    p_user uuid[], p_after uuid[], p_of bigint[], p_other uuid[], p_kinds text[]
) returns void
language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    perform from (
        select d.id, k.kind collate "C" as kind
        from key_owners(p_user, p_of, p_other) o
        cross join lateral (
            select d.id from devices d
            where d.user_id = o.user_id and d.identity is not null and d.id > p_after[o.n] limit 1000
        ) d
        cross join unnest(p_kinds) k(kind)
        where o.is_reached order by d.id, kind
    ) w
    cross join lateral (
        -- By its key: without statistics Postgres would read the whole table.
        select from key_pools p where p.device_id = w.id and p.kind = w.kind limit 1 for no key update
    ) p;
end $$;
