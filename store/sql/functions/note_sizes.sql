-- Notes the sizes that the object store has told of files whose size was not known, and counts them: the bytes of users
-- and of the deployment stay the sums over the rows, and so do the figures of the day.
create or replace function note_sizes(p_ids uuid[], p_sizes bigint[]) returns void language plpgsql as $$
declare
    owners uuid[];
    differences bigint[];
    more bigint;
    less bigint;
begin
    with known as (
        select a.id, a.user_id, s.size, s.size - a.size_bytes as difference
        from unnest(p_ids, p_sizes) s(id, size) join attachments a on a.id = s.id
        where not a.is_sized order by a.id for no key update of a
    ), noted as (
        update attachments a set size_bytes = k.size, is_sized = true from known k where a.id = k.id
        returning k.user_id, k.difference
    )
    select array_agg(n.user_id), array_agg(n.difference), coalesce(sum(n.difference) filter (where n.difference > 0), 0),
           coalesce(-sum(n.difference) filter (where n.difference < 0), 0)
    into owners, differences, more, less from noted n;
    if more = 0 and less = 0 then
        return;
    end if;
    -- In this order everywhere: attachments, usage by user, total, figures.
    perform from attachment_usage u where u.user_id = any(owners) order by u.user_id for no key update;
    update attachment_usage u set stored_bytes = u.stored_bytes + d.bytes
    from (select o.owner, sum(o.difference) as bytes from unnest(owners, differences) o(owner, difference) group by 1) d
    where u.user_id = d.owner;
    -- Only imports bring files of unknown size, and they are complete.
    update attachment_total t
    set stored_bytes = t.stored_bytes + more - less, complete_bytes = t.complete_bytes + more - less;
    -- A file that is smaller than was said counts as bytes that were removed: no figure of a day falls.
    perform count_attachments('removed', 0, less) where less > 0;
    perform count_attachments('uploaded', 0, more) where more > 0;
end $$;
