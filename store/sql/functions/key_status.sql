-- What the server holds of a device: a row for each kind; one row without a kind if there is none. No row: the device was
-- revoked. Keys of another history are not handed out, and count as gone.
--
-- history: this one, as history_number().
-- digest: SHA-256 of the number (8 bytes, the most significant first) and the SHA-256 of each key, joined: one-time keys in
--     the order of their numbers, then the last-resort key.
create or replace function key_status(p_device uuid) returns table (
    identity bytea, identity_revision int, history bigint, kind text, count bigint, first bigint, highest bigint,
    digest bytea, last_resort bigint, is_given boolean
)
language sql stable as $$
    select d.identity, d.identity_revision, h.history, p.kind, case when p.history = h.history then p.stored - p.taken else 0 end,
           coalesce(held.first, 0), p.highest_number,
           sha256(coalesce(held.joined, '') || coalesce(int8send(p.last_resort_number) || sha256(p.last_resort), '')),
           case when p.last_resort is null then 0 else p.last_resort_number end, p.is_given
    from devices d
    cross join (select history_number() as history) h
    left join key_pools p on p.device_id = d.id
    left join lateral (
        select min(o.number) as first, string_agg(int8send(o.number) || sha256(o.key), '' order by o.number) as joined
        from one_time_keys k cross join unnest(k.numbers, k.keys) with ordinality o(number, key, place)
        where k.device_id = p.device_id and k.kind = p.kind and p.history = h.history and k.place + o.place - 1 > p.taken
    ) held on p.device_id is not null
    where d.id = p_device and d.revoked is null
    order by p.kind
$$;
