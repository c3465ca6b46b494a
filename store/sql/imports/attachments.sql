-- name: prepare
-- Attachments without a message that was taken.
delete from imported.notes n where n.about = 'attachments' and n.reason = 'message_unknown';
insert into imported.notes (about, reason, id, detail)
select 'attachments', 'message_unknown', a.id::text, a.object_key from imported.old_attachments a
where not exists (select from imported.attachments i where i.id = a.id)
  and not exists (select from imported.conversations k where k.id = a.conversation_id);

-- name: attachments_function
-- New attachments of messages in some conversations, which the caller has locked. Their objects lie where they were.
-- The source knows no digests, and no sizes of thumbnails, and its clients have told it those of files: no size is known
-- until the object store is asked (is_sized), and until then an unknown one is 1.
create or replace function imported.take_attachments(p_conversations uuid[]) returns void language plpgsql as $$
declare
    told uuid[];
    told_seqs bigint[];
    files bigint;
    bytes bigint;
begin
    delete from imported.notes n using imported.conversations k, imported.old_attachments a
    where k.taken_as = any(p_conversations) and a.conversation_id = k.id
      and not exists (select from imported.attachments t where t.id = a.id)
      and n.about = 'attachments' and n.id = a.id::text;
    with fresh as materialized (
        select a.id, a.object_key, a.thumbnail_key, a.size_bytes, a.media_type, k.taken_as, i.seq, m.sender_id,
               m.created, m.deleted is not null as is_gone, md5('thumbnail of ' || a.id)::uuid as thumbnail_id
        from imported.conversations k
        join imported.old_attachments a on a.conversation_id = k.id
        join imported.messages i on i.id = a.message_id
        join messages m on m.conversation_id = k.taken_as and m.seq = i.seq
        where k.taken_as = any(p_conversations)
          and not exists (select from imported.attachments t where t.id = a.id)
    ), made as (
        insert into attachments (id, user_id, object_key, size_bytes, is_sized, media_type, completed, conversation_id, seq,
                                 created)
        select f.id, f.sender_id, f.object_key, case when f.size_bytes >= 1 then f.size_bytes else 1 end, false,
               case when length(f.media_type) between 1 and 127 then f.media_type else 'application/octet-stream' end,
               f.created, f.taken_as, f.seq, f.created
        from fresh f where not f.is_gone and imported.is_key(f.object_key)
        order by f.id
        on conflict do nothing
        returning id, size_bytes
    ), thumbnails as (
        insert into attachments (id, user_id, object_key, size_bytes, is_sized, media_type, thumbnail_of, completed,
                                 conversation_id, seq, created)
        select f.thumbnail_id, f.sender_id, f.thumbnail_key, 1, false, 'application/octet-stream', f.id, f.created,
               f.taken_as, f.seq, f.created
        from fresh f join made on made.id = f.id
        where imported.is_key(f.thumbnail_key)
          and not exists (select from fresh o join made on made.id = o.id where o.object_key = f.thumbnail_key)
        order by f.id
        on conflict do nothing
        returning thumbnail_of, size_bytes
    ), remembered as (
        insert into imported.attachments (id) select made.id from made
    ), shown as (
        update messages m set attachments = m.attachments || f.ids
        from (select f.taken_as, f.seq, array_agg(f.id order by f.id) as ids
              from fresh f join made on made.id = f.id group by f.taken_as, f.seq) f
        where m.conversation_id = f.taken_as and m.seq = f.seq
        returning m.conversation_id, m.seq, m.added
    ), noted as (
        insert into imported.notes (about, reason, id, detail)
        select 'attachments', r.reason, f.id::text, r.detail
        from fresh f
        left join made on made.id = f.id
        left join thumbnails t on t.thumbnail_of = f.id
        cross join lateral (
            values (case when f.is_gone then 'message_deleted'
                         when not imported.is_key(f.object_key) then 'key_not_allowed'
                         when made.id is null then 'object_twice'
                         when f.size_bytes is null or f.size_bytes < 1 then 'size_unknown' end, f.object_key),
                   (case when made.id is not null and f.thumbnail_key is not null and t.thumbnail_of is null
                         then 'thumbnail_not_taken' end, f.thumbnail_key)
        ) r(reason, detail)
        where r.reason is not null
        on conflict do nothing
    )
    select array_agg(s.conversation_id) filter (where s.added <> pg_current_xact_id()),
           array_agg(s.seq) filter (where s.added <> pg_current_xact_id()),
           (select count(*) from made) + (select count(*) from thumbnails),
           (select coalesce(sum(m.size_bytes), 0) from made m) + (select count(*) from thumbnails)
    into told, told_seqs, files, bytes from shown s;
    -- Devices may hold these messages already.
    -- They count as uploaded on the day of the import, since they will be counted when they are removed.
    if files > 0 then
        perform count_attachments('uploaded', files, bytes);
    end if;
    perform note_revision(t.conversation_id, t.seq) from unnest(told, told_seqs) t(conversation_id, seq);
end $$;

-- name: key_function
-- Whether a text can be the key of an object (is_key in store/objects/interface.py).
create or replace function imported.is_key(p_key text) returns boolean language sql immutable as $$
    select coalesce(
        octet_length(p_key) <= 512 and p_key ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$'
        and not exists (select from regexp_split_to_table(p_key, '/') p(part) where octet_length(p.part) > 200), false)
$$;
