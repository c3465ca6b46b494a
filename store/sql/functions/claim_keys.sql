-- Claims a key of each of some kinds of each device of some users, for a user (key_owners): the one with the least number,
-- which is deleted, or the last-resort key if there is none. No two claims get the same key, and a claim that waits for
-- another one gets the next key: the row of the pool is locked first, and the keys are read after that.
--
-- p_after: only devices with greater ids. p_limit, p_bytes: the most devices of a page, and the bytes of their identities
--     and keys together, but for the first.
-- p_most: the claims of a user for a device in an hour, beyond which there are last-resort keys alone.
-- p_few: a pool of fewer keys than this is low.
--
-- A row for each key, in the order of devices and kinds; without a kind: there is no key of the device. has_more: there
-- are devices with greater ids than those of the page.
create or replace function claim_keys(
    p_user uuid, p_users uuid[], p_kinds text[], p_after uuid, p_limit int, p_bytes bigint, p_most int, p_few int
) returns table (
    owner_id uuid, device uuid, identity bytea, identity_revision int, key_kind text, key_number bigint, key_bytes bytea,
    is_last_resort boolean, has_more boolean
)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    now_history bigint;
    ids uuid[];
    sizes int[];
    -- Of ids: the devices whose users the claim reaches; those of this page; those of both that are within the rate.
    reached uuid[];
    page uuid[];
    free uuid[];
    key_sizes bigint;
begin
    select array_agg(f.id order by f.id), array_agg(f.bytes order by f.id),
           coalesce(array_agg(f.id order by f.id) filter (where f.is_reached), '{}')
    into ids, sizes, reached
    from (
        select d.id, o.is_reached, octet_length(d.identity) as bytes
        from key_owners(p_user, p_users) o
        -- The limit, which no user comes near to, makes Postgres look up the devices of each user.
        cross join lateral (
            select d.id, d.identity from devices d
            where d.user_id = o.user_id and d.identity is not null and d.id > p_after limit 1000
        ) d
        order by d.id limit p_limit + 1
    ) f;
    if ids is null then
        return;
    end if;
    now_history := history_number();
    page := ids[:p_limit];
    -- All claims and uploads lock in this order.
    select sum(locked.most_bytes) into key_sizes
    from (
        -- By its key, one after the other: without statistics Postgres would read the whole table.
        select p.most_bytes
        from (select r, k from unnest(reached) r cross join unnest(p_kinds) k order by r, k collate "C") wanted
        cross join lateral (
            select p.most_bytes from key_pools p where p.device_id = wanted.r and p.kind = wanted.k limit 1
            for no key update
        ) p
    ) locked;
    if cardinality(ids) > cardinality(reached)
       or coalesce(key_sizes, 0) + (select sum(s) from unnest(sizes) s) > p_bytes then
        page := array(
            select f.id from (
                select s.id, sum(s.bytes) over (order by s.id) - s.bytes as before
                from (
                    select i.id, i.bytes + coalesce(sum(p.most_bytes), 0) as bytes
                    from unnest(page, sizes[:p_limit]) i(id, bytes)
                    left join key_pools p on p.device_id = i.id and p.kind = any(p_kinds)
                    group by i.id, i.bytes
                ) s
            ) f
            where f.before < p_bytes order by f.id
        );
    end if;
    with counted as (
        insert into key_claims as c (user_id, device_id, since, claims)
        select p_user, r, clock_timestamp(), 1 from unnest(reached) r where r = any(page) order by r
        on conflict on constraint key_claims_pkey do update
        set claims = case when c.since > excluded.since - interval '1 hour' then c.claims + 1 else 1 end,
            since = case when c.since > excluded.since - interval '1 hour' then c.since else excluded.since end
        returning c.device_id, c.claims
    )
    select array_agg(c.device_id) into free from counted c where c.claims <= p_most;
    return query
    with pools as materialized (
        -- The places of rows do not change: their pool is locked.
        select p.device_id, p.kind, p.last_resort_number, p.last_resort, p.place, next.number, next.place as key_place
        from unnest(page) i(id) cross join unnest(p_kinds) w(kind)
        cross join lateral (
            select p.*, p.ctid as place from key_pools p where p.device_id = i.id and p.kind = w.kind limit 1
        ) p
        left join lateral (
            select k.number, k.ctid as place from one_time_keys k
            where k.device_id = p.device_id and k.kind = p.kind order by k.number limit 1
        ) next on p.history = now_history and p.device_id = any(free)
    ), taken as (
        delete from one_time_keys k
        where k.ctid = any(array(select s.key_place from pools s where s.number is not null))
        returning k.device_id, k.kind, k.number, k.key
    ), told as (
        update key_pools p set is_given = p.is_given or s.number is null, low = clock_timestamp()
        from pools s
        where p.ctid = any(array(select s.place from pools s)) and p.device_id = s.device_id and p.kind = s.kind
          and p.device_id = any(reached)
          and case when s.number is null then p.last_resort is not null and not p.is_given
              else p.low is null and (
                  select count(*) from (
                      select from one_time_keys k
                      where k.device_id = s.device_id and k.kind = s.kind and k.number > s.number limit p_few
                  ) few
              ) < p_few end
    )
    select d.user_id, d.id, d.identity, d.identity_revision, g.kind, g.number, g.key, g.is_last,
           cardinality(ids) > cardinality(page)
    from devices d
    left join (
        select t.device_id, t.kind, t.number, t.key, false as is_last from taken t
        union all
        select s.device_id, s.kind, s.last_resort_number, s.last_resort, true from pools s
        where s.number is null and s.last_resort is not null
    ) g on g.device_id = d.id
    where d.id = any(page) and d.identity is not null
    order by d.id, g.kind;
end $$;
