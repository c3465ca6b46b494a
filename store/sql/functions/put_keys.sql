-- Publishes what a device gives: an identity, and one-time keys and last-resort keys of some kinds. An upload that is
-- repeated changes nothing: a number that was stored before is skipped, whatever has become of its key.
--
-- p_identity: null: it stays as it is. Another one drops all keys that belong to the one before.
-- p_history: the history that the device knows of; null: none. Keys are stored in that one alone: in another history the
--     database may have forgotten that they were handed out.
-- p_kinds, p_numbers, p_keys: one-time keys. The pool of each kind takes as many, in the order of their numbers,
--     as it has room for.
-- p_last_kinds, p_last_numbers, p_last_keys: last-resort keys; each takes the place of one with a lesser number.
-- p_is_anew: delete the one-time keys with lesser numbers of each kind that has some here.
-- p_most: one-time keys of a pool; p_most_kinds: pools of a device.
-- p_few: a pool of fewer keys than this is low.
--
-- Returns 'put', 'revoked', 'other_history' or 'too_many_kinds'; all but the first have stored nothing.
create or replace function put_keys(
    p_device uuid, p_identity bytea, p_history bigint, p_kinds text[], p_numbers bigint[], p_keys bytea[],
    p_last_kinds text[], p_last_numbers bigint[], p_last_keys bytea[], p_is_anew boolean,
    p_most int, p_most_kinds int, p_few int
) returns text
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    device devices;
    is_other boolean;
    now_history constant bigint := history_number();
    given constant text[] := array(select distinct k from unnest(p_kinds || p_last_kinds) k);
begin
    -- Uploads of a device follow each other by this lock. Claims lock the pools alone.
    select * into device from devices d where d.id = p_device and d.revoked is null for no key update;
    if not found then
        return 'revoked';
    end if;
    if given <> '{}' and p_history is distinct from now_history then
        return 'other_history';
    end if;
    if (
        select count(*) from (
            select p.kind from key_pools p where p.device_id = p_device union select unnest(given)
        ) kinds
    ) > p_most_kinds then
        return 'too_many_kinds';
    end if;
    is_other := p_identity is not null and device.identity is distinct from p_identity;
    if is_other then
        -- This locks conversations, so it comes before the pools: whoever waits for those holds up no claim.
        update devices d set identity = p_identity, identity_revision = d.identity_revision + 1 where d.id = p_device;
    end if;
    perform from key_pools p where p.device_id = p_device order by p.kind for no key update;
    if is_other then
        delete from one_time_keys k where k.device_id = p_device;
        update key_pools p set taken = p.stored, last_resort = null, is_given = false, low = null
        where p.device_id = p_device;
    end if;
    if given = '{}' then
        return 'put';
    end if;
    insert into key_pools (device_id, kind, history) select p_device, k, now_history from unnest(given) k
    on conflict do nothing;
    with held as materialized (
        select p.kind, p.highest_number, p.stored, case
                   when p.history <> now_history then p.stored
                   when p_is_anew then p.taken + (
                       select count(*) from one_time_keys k cross join unnest(k.numbers) with ordinality o(number, place)
                       where k.device_id = p_device and k.kind = p.kind and k.place + o.place - 1 > p.taken
                         and o.number < (select min(u.number) from unnest(p_kinds, p_numbers) u(kind, number)
                                         where u.kind = p.kind)
                   )
                   else p.taken end as taken
        from key_pools p where p.device_id = p_device and p.kind = any(given)
    ), fresh as (
        select distinct on (u.kind, u.number) u.kind, u.number, u.key
        from unnest(p_kinds, p_numbers, p_keys) u(kind, number, key)
        join held h on h.kind = u.kind and u.number > h.highest_number
    ), fitting as materialized (
        select f.*, h.stored, max(octet_length(f.key)) over (partition by f.kind) as bytes
        from (select f.*, row_number() over (partition by f.kind order by f.number) - 1 as before from fresh f) f
        join held h on h.kind = f.kind and f.before < p_most - h.stored + h.taken
    ), stored as (
        insert into one_time_keys (device_id, kind, place, numbers, keys)
        select p_device, f.kind, f.stored + 1 + min(f.before), array_agg(f.number order by f.number),
               array_agg(f.key order by f.number)
        -- As many keys in a row as Postgres stores beside each other, not in pieces elsewhere.
        from fitting f group by f.kind, f.stored, f.before / greatest(1, 1800 / (f.bytes + 16))
    ), gone as (
        delete from one_time_keys k using held h
        where k.device_id = p_device and k.kind = h.kind and k.place + cardinality(k.numbers) - 1 <= h.taken
    ), sums as (
        select f.kind, count(*) as count, max(f.number) as highest, max(f.bytes) as bytes from fitting f group by f.kind
    ), last as (
        select distinct on (l.kind) l.kind, l.number, l.key
        from unnest(p_last_kinds, p_last_numbers, p_last_keys) l(kind, number, key) order by l.kind, l.number desc
    ), changes as (
        select h.*, coalesce(s.count, 0) as count, s.highest, greatest(s.bytes, octet_length(l.key)) as bytes, l.number, l.key
        from held h left join sums s on s.kind = h.kind left join last l on l.kind = h.kind
    )
    update key_pools p
    set history = now_history, stored = c.stored + c.count, taken = c.taken,
        highest_number = greatest(c.highest_number, c.highest), most_bytes = greatest(p.most_bytes, c.bytes),
        last_resort_number = greatest(p.last_resort_number, c.number),
        last_resort = case when c.number > p.last_resort_number then c.key else p.last_resort end,
        is_given = p.is_given and (c.number > p.last_resort_number) is not true,
        low = case when c.stored + c.count - c.taken < p_few
                        or p.is_given and (c.number > p.last_resort_number) is not true then p.low end
    from changes c where p.device_id = p_device and p.kind = c.kind;
    return 'put';
end $$;
