-- Removes the rows of orphaned attachments whose objects are gone. Only now their bytes are given back to the user and
-- the deployment, and counted among the figures of the day. Rows that another transaction has locked are passed over.
--
-- Returns how many were removed here.
create or replace function remove_attachments(p_ids uuid[]) returns bigint language plpgsql as $$
declare
    gone attachments[];
    owners uuid[];
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
    -- In this order everywhere: attachments, usage by user, total, figures.
    owners := array(select distinct g.user_id from unnest(gone) g);
    perform from attachment_usage u where u.user_id = any(owners) order by u.user_id for no key update;
    -- Not below 0: a wrong count must not keep attachments from being removed.
    update attachment_usage u
    set stored_bytes = greatest(
        u.stored_bytes - (select sum(g.size_bytes) from unnest(gone) g where g.user_id = u.user_id), 0)
    where u.user_id = any(owners);
    update attachment_total t
    set stored_bytes = greatest(t.stored_bytes - (select sum(g.size_bytes) from unnest(gone) g), 0);
    perform count_attachments('removed', count(*), sum(g.size_bytes)::bigint)
    from unnest(gone) g where g.completed is not null
    having count(*) > 0;
    return cardinality(gone);
end $$;
