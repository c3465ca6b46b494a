-- Removes the rows of orphaned attachments whose objects are gone. Only now their bytes are given back to the user and
-- the deployment (count_stored_bytes), and counted among the figures of the day. Rows that another transaction has
-- locked are passed over.
--
-- Returns how many were removed here.
create or replace function remove_attachments(p_ids uuid[]) returns bigint language plpgsql as $$
declare
    gone attachments[];
begin
    with removed as (
        delete from attachments a where a.id in (
            select o.id from attachments o
            where o.id = any(p_ids) and o.orphaned is not null
            order by o.id for update skip locked
        )
        returning a
    )
    select array_agg(r.a) into gone from removed r;
    if gone is null then
        return 0;
    end if;
    perform count_attachments('removed', count(*), sum(g.size_bytes)::bigint)
    from unnest(gone) g where g.completed is not null
    having count(*) > 0;
    return cardinality(gone);
end $$;
