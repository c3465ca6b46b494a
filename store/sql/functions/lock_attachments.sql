-- Locks those of some files that a message could take now, with their thumbnails: they belong to none and are not
-- orphaned. Returns their ids.
--
-- In the order of their ids, so that two transactions that name the same files never wait for each other in a circle. A
-- transaction that waited for another one finds the file taken, or orphaned by the clean-up.
create or replace function lock_attachments(p_ids uuid[]) returns uuid[] language sql as $$
    select array(
        select a.id from attachments a
        where a.id = any(p_ids || array(select t.id from attachments t where t.thumbnail_of = any(p_ids)))
          and a.conversation_id is null and a.orphaned is null
        order by a.id for no key update
    )
$$;
