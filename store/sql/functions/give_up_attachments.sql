-- Gives up uploads of a user, with their thumbnails: all, or none. Nobody can complete or attach them any longer. The
-- caller deletes their objects, and then removes the rows; a job does it if the caller cannot.
--
-- outcome:
--   'given_up': ids, keys and uploads are those of all rows, thumbnails among them
--   'unknown': the user has not all of these uploads
--   'used': a message has one of them, or a user or a group shows it as its avatar
create or replace function give_up_attachments(
    p_user uuid, p_ids uuid[], out outcome text, out ids uuid[], out keys text[], out uploads text[]
) language plpgsql as $$
declare
    known bigint;
    used bigint;
begin
    select array_agg(l.id), array_agg(l.object_key), array_agg(l.upload), count(*) filter (where l.id = any(p_ids)),
           count(*) filter (where l.conversation_id is not null or l.is_shown)
    into ids, keys, uploads, known, used
    from (
        select a.id, a.object_key, a.upload, a.conversation_id, a.is_shown from attachments a
        where (a.id = any(p_ids) or a.thumbnail_of = any(p_ids)) and a.user_id = p_user and a.orphaned is null
        order by a.id for update
    ) l;
    outcome := case
        when known < (select count(distinct i) from unnest(p_ids) i) then 'unknown'
        when used > 0 then 'used'
        else 'given_up' end;
    if outcome = 'given_up' then
        -- A thumbnail that is given up alone leaves its file as one without a thumbnail.
        update attachments a set orphaned = clock_timestamp(), thumbnail_of = null where a.id = any(ids);
    end if;
end $$;
