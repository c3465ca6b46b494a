-- name: note
-- Notes that devices were used so long ago, and by which clients. Rows that are locked are left out: the transaction
-- that has them may wait for others of these. A row for each device that was left out.
with given as materialized (
    select g.device_id, min(g.ago_us) as ago_us, max(g.client) as client
    from unnest(%(devices)s, %(ago_us)s, %(clients)s) as g(device_id, ago_us, client) group by g.device_id
), free as materialized (
    select d.id from devices d where d.id in (select g.device_id from given g) for no key update skip locked
), noted as (
    update devices d
    set last_used = greatest(d.last_used, now() - g.ago_us * interval '1 microsecond'),
        client = coalesce(g.client, d.client)
    from given g, free f where d.id = g.device_id and f.id = d.id
)
select d.id from devices d where d.id in (select g.device_id from given g) and d.id not in (select f.id from free f);
