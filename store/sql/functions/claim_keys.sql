-- Claims one-time keys for several users in one transaction: for each claim a key of each of its kinds of each device of
-- the users that it names (key_owners), the one with the least number, which is deleted, or the last-resort key if there is
-- none. No two claims get the same key, and a claim that waits for another one gets the next key: the row of the pool is
-- locked first, and the keys are read after that. Of the claims here, those that come first get the lesser numbers.
--
-- p_waits: for pools that another transaction has locked. If not, the claims that need one of them do nothing, and have a
--     row with is_locked.
-- p_user, p_after, p_limit, p_bytes: an element for each claim. Only devices with ids greater than p_after; the most
--     devices of a page, and the bytes of their identities and keys together, but for the first.
-- p_user_of, p_other: the users that claims name, with the place of the claim in p_user.
-- p_kind_of, p_kind: the same of kinds, each once for a claim.
-- p_most: the claims of a user for a device in an hour, beyond which there are last-resort keys alone.
-- p_few: a pool of fewer keys than this is low.
--
-- A row for each key, in the order of claims (n), devices and kinds; without a kind: there is no key of the device.
-- has_more: there are devices with greater ids than those of the page. is_low: the pool was noted as low, so that the device
--     is told (key_pools.low).
create or replace function claim_keys(
    p_waits boolean, p_user uuid[], p_after uuid[], p_limit bigint[], p_bytes bigint[], p_user_of bigint[], p_other uuid[],
    p_kind_of bigint[], p_kind text[], p_most int, p_few int
) returns table (
    n bigint, owner_id uuid, device uuid, identity bytea, identity_revision int, key_kind text, key_number bigint,
    key_bytes bytea, is_last_resort boolean, has_more boolean, is_locked boolean, is_low boolean
)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    now_history bigint;
    -- Each kind of each device of each claim: the claim, the device, its place among the claim's devices (one more than the
    -- page has), the bytes of its identity, whether the claim reaches its user, the kind and its place among the kinds; and
    -- if the claim reaches the user, the place of the pool in the arrays below.
    claims bigint[];
    ids uuid[];
    places bigint[];
    sizes int[];
    reached boolean[];
    kinds text[];
    kind_places bigint[];
    pools bigint[];
    -- Each pool that is locked here, as it is from then on. Null: there is none, or another transaction has locked it.
    rows tid[];
    are_current boolean[];
    are_given boolean[];
    are_low boolean[];
    lows_from bigint[];
    most_sizes int[];
    locked bigint[] := '{}';
    -- The claims whose pages have not all of their devices; and whether there may be some.
    longer bigint[] := '{}';
    may_be_longer boolean;
    all_bytes bigint;
begin
    select array_agg(f.n), array_agg(f.id), array_agg(f.place), array_agg(f.bytes), array_agg(f.is_reached),
           array_agg(f.kind), array_agg(f.kind_place), array_agg(case when f.is_reached then f.pool end),
           bool_or(f.place > p_limit[f.n] or not f.is_reached), sum(f.bytes)
    into claims, ids, places, sizes, reached, kinds, kind_places, pools, may_be_longer, all_bytes
    from (
        select d.n, d.id, d.place, d.bytes, d.is_reached, k.kind, k.place as kind_place,
               dense_rank() over (partition by d.is_reached order by d.id, k.kind collate "C") as pool
        from (
            select o.n, o.is_reached, d.id, d.bytes, row_number() over (partition by o.n order by d.id) as place
            from key_owners(p_user, p_user_of, p_other) o
            -- The limit, which no user comes near to, makes Postgres look up the devices of each user.
            cross join lateral (
                select d.id, octet_length(d.identity) as bytes from devices d
                where d.user_id = o.user_id and d.identity is not null and d.id > p_after[o.n] limit 1000
            ) d
        ) d
        join (
            select k.n, k.kind, row_number() over (partition by k.n) as place
            from unnest(p_kind_of, p_kind) k(n, kind)
        ) k on k.n = d.n
        where d.place <= p_limit[d.n] + 1
    ) f;
    if ids is null then
        return;
    end if;
    now_history := history_number();
    -- All claims and uploads lock in this order. By its key, one after the other: without statistics Postgres would read
    -- the whole table.
    if p_waits then
        perform from (
            select distinct i.id, i.kind collate "C" as kind from unnest(ids, kinds, pools) i(id, kind, pool)
            where i.pool is not null order by i.id, kind
        ) w
        cross join lateral (
            select from key_pools p where p.device_id = w.id and p.kind = w.kind limit 1 for no key update
        ) p;
    end if;
    select array_agg(p.place), array_agg(p.history = now_history), array_agg(p.is_given), array_agg(p.low is not null),
           array_agg(p.low_from), array_agg(p.most_bytes), all_bytes + coalesce(sum(p.most_bytes), 0)
    into rows, are_current, are_given, are_low, lows_from, most_sizes, all_bytes
    from (
        select distinct i.pool, i.id, i.kind from unnest(ids, kinds, pools) i(id, kind, pool)
        where i.pool is not null order by i.pool
    ) w
    left join lateral (
        -- A row that is locked is the present one, whatever this statement sees of others.
        select p.ctid as place, p.history, p.is_given, p.low, p.low_from, p.most_bytes
        from key_pools p where p.device_id = w.id and p.kind = w.kind limit 1 for no key update skip locked
    ) p on true;
    if array_position(rows, null) is not null then
        locked := array(
            select distinct i.n
            from unnest(claims, ids, kinds, pools) i(n, id, kind, pool)
            cross join lateral (select from key_pools p where p.device_id = i.id and p.kind = i.kind limit 1) p
            where i.pool is not null and rows[i.pool] is null and not p_waits
        );
    end if;
    if may_be_longer or all_bytes > any(p_bytes) then
        -- One of the claims has many devices, or long keys: take what fits into its page. The pools of users who are not
        -- reached are not counted yet.
        with pairs as materialized (
            select i.*,
                   coalesce(sum(coalesce(case when i.is_reached then most_sizes[i.pool] else p.most_bytes end, 0)
                                + case when i.kind_place = 1 then i.bytes else 0 end) over (
                       partition by i.n order by i.id range unbounded preceding exclude group), 0) as bytes_before
            from unnest(claims, ids, places, sizes, reached, kinds, kind_places, pools)
                i(n, id, place, bytes, is_reached, kind, kind_place, pool)
            left join lateral (
                select p.most_bytes from key_pools p
                where not i.is_reached and p.device_id = i.id and p.kind = i.kind limit 1
            ) p on true
        ), fitting as materialized (
            select s.*, s.place <= p_limit[s.n] and (s.place = 1 or s.bytes_before < p_bytes[s.n]) as fits from pairs s
        )
        select array_agg(s.n) filter (where s.fits), array_agg(s.id) filter (where s.fits),
               array_agg(s.is_reached) filter (where s.fits), array_agg(s.kind) filter (where s.fits),
               array_agg(s.pool) filter (where s.fits), coalesce(array_agg(s.n) filter (where not s.fits), '{}')
        into claims, ids, reached, kinds, pools, longer
        from fitting s;
    end if;
    return query
    with page as materialized (
        -- turn: 1 for the last of the claims here of a user for a device, 2 for the one before.
        select i.*, dense_rank() over (partition by p_user[i.n], i.id order by i.n desc) as turn
        from unnest(claims, ids, reached, kinds, pools) i(n, id, is_reached, kind, pool)
        where i.n <> all(locked)
    ), counted as (
        insert into key_claims as c (user_id, device_id, since, claims)
        select p_user[s.n], s.id, clock_timestamp(), max(s.turn) from page s where s.is_reached
        group by p_user[s.n], s.id order by p_user[s.n], s.id
        on conflict on constraint key_claims_pkey do update
        set claims = case when c.since > excluded.since - interval '1 hour' then c.claims else 0 end + excluded.claims,
            since = case when c.since > excluded.since - interval '1 hour' then c.since else excluded.since end
        returning c.user_id, c.device_id, c.claims
    ), served as materialized (
        -- The places of rows do not change: their pool is locked.
        select s.*, next.number, next.place as key_place
        from (
            select s.*, count(*) filter (where s.is_free) over (
                       partition by s.pool order by s.n rows unbounded preceding exclude current row) as taken_before
            from (
                select s.*, coalesce(are_current[s.pool] and c.claims - s.turn < p_most, false) as is_free
                from page s left join counted c on c.user_id = p_user[s.n] and c.device_id = s.id
            ) s
        ) s
        left join lateral (
            select k.number, k.ctid as place from one_time_keys k
            where s.is_free and k.device_id = s.id and k.kind = s.kind
            order by k.number offset s.taken_before limit 1
        ) next on true
    ), taken as (
        delete from one_time_keys k
        where k.ctid = any(array(select s.key_place from served s where s.key_place is not null))
        returning k.device_id, k.kind, k.number, k.key
    ), told as (
        update key_pools p
        set is_given = p.is_given or p.last_resort is not null and s.is_empty, low = clock_timestamp()
        from (
            select s.id, s.kind, bool_or(s.number is null) as is_empty
            from served s
            where rows[s.pool] is not null and case when s.number is null then not are_given[s.pool]
                else not are_low[s.pool] and s.number >= lows_from[s.pool] end
            group by s.id, s.kind
        ) s
        where p.ctid = any(array(
                select rows[s.pool] from served s
                where rows[s.pool] is not null and case when s.number is null then not are_given[s.pool]
                    else not are_low[s.pool] and s.number >= lows_from[s.pool] end
            ))
          and p.device_id = s.id and p.kind = s.kind and (not s.is_empty or p.last_resort is not null)
        returning p.device_id, p.kind
    )
    select s.n, d.user_id, d.id, d.identity, d.identity_revision,
           case when t.key is not null or last.key is not null then s.kind end,
           case when t.key is not null then t.number else last.number end,
           coalesce(t.key, last.key), t.key is null, s.n = any(longer), false, w.kind is not null
    from served s
    join devices d on d.id = s.id and d.identity is not null
    left join taken t on t.device_id = s.id and t.kind = s.kind and t.number = s.number
    left join told w on w.device_id = s.id and w.kind = s.kind
    left join lateral (
        select p.last_resort_number as number, p.last_resort as key from key_pools p
        where s.number is null and p.device_id = s.id and p.kind = s.kind and p.last_resort is not null limit 1
    ) last on true
    union all
    select l.n, null, null, null, null, null, null, null, null, null, true, false from unnest(locked) l(n)
    order by 1, 3, 6;
end $$;
