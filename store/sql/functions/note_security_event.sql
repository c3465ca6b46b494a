-- Notes an event of an account's security, in the transaction of what it records. Returns the id of its row.
--
-- Postgres runs a part of a query that only selects if the rest refers to it. So after a change in a `with`:
--     with changed as (update … returning user_id),
--     noted as (select note_security_event('…', c.user_id, %(source)s::jsonb) from changed c)
--     select … from changed left join noted on true
--
-- p_kind: one of KINDS in store/security_events.py.
-- p_user: the user whose account it is; null: it concerns no user.
-- p_source: the actor and the actor's network: Source.encoded() of store/security_events.py.
-- p_detail: what else its user should know, in at most 1,024 characters; nothing secret, and no address of a person.
-- p_device: the device that was made, if the source has none.
-- p_is_counted: the event can be caused at will, such as a failed login: events of one hour with the same kind, user
--     and detail have one row, with their number, and the source of the last one. So have, without detail, events of a kind
--     of which the user has 100 rows from the last 24 hours (MAX_OWN_ROWS in store/security_events.py); calls at the same
--     time may make a few more. 100 are the devices that one request revokes at most.
create or replace function note_security_event(
    p_kind text, p_user uuid, p_source jsonb, p_detail jsonb default '{}', p_device uuid default null,
    p_is_counted boolean default false
) returns bigint language sql volatile as $$
    insert into security_events (kind, user_id, actor, operator, device_id, network, client, detail, hour, last)
    select p_kind, p_user, p_source->>'actor', p_source->>'operator',
           coalesce((p_source->>'device')::uuid, p_device),
           network(set_masklen(a.address, case family(a.address) when 4 then 24 else 48 end)),
           p_source->>'client', case when c.is_further then '{}' else p_detail end,
           case when p_is_counted or c.is_further then date_trunc('hour', clock_timestamp(), 'UTC') end,
           case when p_is_counted or c.is_further then clock_timestamp() end
    from (select (p_source->>'address')::inet as address) a
    cross join (
        select not p_is_counted and count(*) = 100 as is_further from (
            select from security_events e
            where e.user_id = p_user and e.kind = p_kind and e.hour is null and e.at > now() - interval '1 day'
            limit 100
        ) own
    ) c
    on conflict (user_id, kind, hour, detail) where hour is not null do update
    set times = security_events.times + 1, last = excluded.last, actor = excluded.actor, operator = excluded.operator,
        device_id = excluded.device_id, network = excluded.network, client = excluded.client
    returning id
$$;
