-- Claims one-time keys for several users in one transaction: for each claim a key of each of some kinds of each device of
-- the users that it names (key_owners), the first of its pool (key_pools), or the last-resort key if there is none. No two
-- claims get the same key. The claims that come first here get the lesser numbers.
--
-- p_waits: for pools that another transaction has locked. If not, the claims that need one of them do nothing, and have a
--     row with is_locked; so do those that need a pool that has changed just now.
-- p_user, p_after, p_limit, p_bytes: an element for each claim; each user once. Only devices with ids greater than p_after;
--     the most devices of a page, and the most bytes of their identities and keys together, but for the first.
-- p_of, p_other: the users that claims name, with the place of the claim in p_user.
-- p_kinds: of all claims, each once.
-- p_most: the claims of a user for a device in an hour, beyond which there are last-resort keys alone.
-- p_few: a pool of fewer keys than this is low.
--
-- A row for each key, in the order of claims (n), devices and kinds; without a kind: there is no key of the device.
-- has_more: there are devices with greater ids than those of the page. is_low: the pool was noted as low, so that the device
--     is told (key_pools.low).
create or replace function claim_keys(
    p_waits boolean, p_user uuid[], p_after uuid[], p_limit bigint[], p_bytes bigint[], p_of bigint[], p_other uuid[],
    p_kinds text[], p_most int, p_few int
) returns table (
    n bigint, owner_id uuid, device uuid, identity bytea, identity_revision int, key_kind text, key_number bigint,
    key_bytes bytea, is_last_resort boolean, has_more boolean, is_locked boolean, is_low boolean
)
-- Pools are read by their places, whatever the statistics say.
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare
    now_history constant bigint := history_number();
begin
    if p_waits then
        perform lock_pools(p_user, p_after, p_of, p_other, p_kinds);
    end if;
    return query
    with asked as materialized (
        select o.n, o.user_id, o.is_reached, d.id, d.identity, d.identity_revision, k.kind, k.place as kind_place,
               p.place as pool, p.stored, p.taken, p.history = now_history as is_current, p.is_low, p.is_given, p.has_last_resort,
               o.is_reached and p.place is distinct from l.place as is_locked,
               -- The number of the devices up to this one, and the bytes of a page of them.
               dense_rank() over page as devices, sum(case when k.place = 1 then d.bytes else 0 end + p.most_bytes) over page
                   as bytes
        from key_owners(p_user, p_of, p_other) o
        -- The limit, which no user comes near to, makes Postgres look up the devices of each user.
        cross join lateral (
            select d.id, d.identity, d.identity_revision, octet_length(d.identity) as bytes from devices d
            where d.user_id = o.user_id and d.identity is not null and d.id > p_after[o.n] limit 1000
        ) d
        cross join unnest(p_kinds) with ordinality k(kind, place)
        left join lateral (
            select p.ctid as place, p.stored, p.taken, p.history, p.low is not null as is_low, p.is_given,
                   p.last_resort is not null as has_last_resort, p.most_bytes
            from key_pools p where p.device_id = d.id and p.kind = k.kind limit 1
        ) p on true
        left join lateral (
            -- The lock takes the new version, at another place, of a row that was updated after the snapshot here.
            select l.ctid as place from key_pools l where o.is_reached and l.ctid = p.place limit 1
            for no key update skip locked
        ) l on true
        window page as (partition by o.n order by d.id)
    ), page as materialized (
        select a.* from asked a
        where a.devices <= p_limit[a.n] and (a.bytes <= p_bytes[a.n] or a.devices = 1)
          and a.n <> all(array(select l.n from asked l where l.is_locked))
    ), counted as (
        insert into key_claims as c (user_id, device_id, since, claims)
        select p_user[s.n], s.id, clock_timestamp(), 1 from page s where s.is_reached and s.kind_place = 1 order by 1, 2
        on conflict on constraint key_claims_pkey do update
        set claims = case when c.since > excluded.since - interval '1 hour' then c.claims else 0 end + 1,
            since = case when c.since > excluded.since - interval '1 hour' then c.since else excluded.since end
        returning c.user_id, c.device_id, c.claims
    ), beyond as materialized (
        select c.user_id, c.device_id from counted c where c.claims > p_most
    ), served as materialized (
        select s.*, case when s.key_place is not null then not s.is_low and s.stored - s.key_place < p_few
                    else s.is_reached and not s.is_given and s.has_last_resort end as is_told
        from (
            select s.*, case when s.is_free then nullif(least(s.stored + 1, s.taken + row_number() over (
                       partition by s.pool, s.is_free order by s.n)), s.stored + 1) end as key_place
            from (
                select s.*, s.is_reached and s.is_current and b.user_id is null as is_free
                from page s left join beyond b on b.user_id = p_user[s.n] and b.device_id = s.id
            ) s
        ) s
    ), moved as (
        update key_pools p
        set taken = s.taken, is_given = p.is_given or s.is_given,
            low = case when s.is_told then clock_timestamp() else p.low end
        from (
            select s.pool, coalesce(max(s.key_place), max(s.taken)) as taken, bool_or(s.is_told) as is_told,
                   bool_or(s.is_told and s.key_place is null) as is_given
            from served s where s.key_place is not null or s.is_told group by s.pool
        ) s
        where p.ctid = s.pool
    )
    select s.n, s.user_id, s.id, s.identity, s.identity_revision, coalesce(k.kind, r.kind), coalesce(k.number, r.number),
           coalesce(k.key, r.key), k.key is null, s.n = any(array(
               select a.n from asked a
               where a.devices > p_limit[a.n] or a.bytes > p_bytes[a.n] and a.devices > 1
           )), false, s.is_told
    from served s
    left join lateral (
        select k.kind, k.numbers[s.key_place - k.place + 1] as number, k.keys[s.key_place - k.place + 1] as key
        from one_time_keys k
        where k.device_id = s.id and k.kind = s.kind and k.place <= s.key_place
        order by k.place desc limit 1
    ) k on true
    left join lateral (
        select r.kind, r.last_resort_number as number, r.last_resort as key from key_pools r
        where s.key_place is null and r.ctid = s.pool and r.last_resort is not null limit 1
    ) r on true
    union all
    select distinct l.n, null::uuid, null::uuid, null::bytea, null::int, null, null::bigint, null::bytea, null::boolean,
           null::boolean, true, false
    from asked l where l.is_locked
    order by 1, 3, 6;
end $$;
