-- Notes that files are in the object store as they were declared, and counts them among the figures of the day. Those
-- that were noted before, or given up, stay as they are.
--
-- Returns the ids of those that are complete now.
create or replace function complete_attachments(p_user uuid, p_ids uuid[]) returns uuid[] language plpgsql as $$
declare
    files bigint;
    bytes bigint;
begin
    perform from attachments a where a.id = any(p_ids) and a.user_id = p_user order by a.id for no key update;
    with done as (
        update attachments a set completed = clock_timestamp(), part_digests = null, upload = null
        where a.id = any(p_ids) and a.user_id = p_user and a.completed is null and a.orphaned is null
        returning a.size_bytes
    )
    select count(*), sum(d.size_bytes) into files, bytes from done d;
    if files > 0 then
        update attachment_total t
        set complete_files = t.complete_files + files, complete_bytes = t.complete_bytes + bytes;
        perform count_attachments('uploaded', files, bytes);
    end if;
    return array(select a.id from attachments a
                 where a.id = any(p_ids) and a.user_id = p_user and a.completed is not null and a.orphaned is null);
end $$;
