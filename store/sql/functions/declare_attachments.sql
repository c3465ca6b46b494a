-- Declares files that a user is about to upload, or refuses all of them for a quota. The rows are there before anything
-- happens in the object store.
--
-- p_thumbnail_of: for a thumbnail the id of its file, which comes before it; null: a file.
-- p_part_digests: for each file those of its parts, one after the other.
-- p_are_avatars: for users and groups to show; else for messages.
-- A quota of 0 is no quota. Bytes of a user and of the deployment count from here until the objects are gone, bytes of a
-- day by UTC even longer. Files that nothing refers to are open; thumbnails do not count as such.
-- outcome:
--   'declared'
--   'deleted': the account is deleted
--   'open_uploads_per_user', 'attachment_bytes_per_day', 'attachment_bytes_per_user', 'attachment_bytes_total': the quota that would be exceeded
create or replace function declare_attachments(
    p_user uuid, p_ids uuid[], p_keys text[], p_sizes bigint[], p_media_types text[], p_digests bytea[],
    p_part_digests bytea[], p_thumbnail_of uuid[], p_are_avatars boolean, p_open_uploads bigint,
    p_bytes_per_day bigint, p_bytes_per_user bigint, p_bytes_total bigint, out outcome text
) language plpgsql as $$
declare
    usage attachment_usage;
    total bigint;
    today date;
    wanted bigint := (select sum(s) from unnest(p_sizes) s);
    files bigint := (select count(*) from unnest(p_thumbnail_of) t where t is null);
begin
    -- Before all others, as the foreign key of the rows will: a deletion of the account locks in this order, too.
    perform from users u where u.id = p_user and u.deleted is null for key share;
    if not found then
        outcome := 'deleted';
        return;
    end if;
    insert into attachment_usage (user_id) values (p_user) on conflict (user_id) do nothing;
    select * into usage from attachment_usage u where u.user_id = p_user for no key update;
    -- After the lock: the day of a transaction that waited is not before that of the one that it waited for.
    today := (clock_timestamp() at time zone 'UTC')::date;
    if usage.day is distinct from today then
        usage.day := today;
        usage.declared_bytes := 0;
    end if;
    outcome := case
        when p_open_uploads > 0 and files + (
            select count(*) from attachments a
            where a.user_id = p_user and a.conversation_id is null and not a.is_shown and a.orphaned is null
              and a.thumbnail_of is null
        ) > p_open_uploads then 'open_uploads_per_user'
        when p_bytes_per_day > 0 and usage.declared_bytes + wanted > p_bytes_per_day then 'attachment_bytes_per_day'
        when p_bytes_per_user > 0 and usage.stored_bytes + wanted > p_bytes_per_user then 'attachment_bytes_per_user' end;
    if outcome is not null then
        return;
    end if;
    -- The last lock but those of new rows: all uploads of the deployment take it.
    select t.stored_bytes into total from attachment_total t for no key update;
    if p_bytes_total > 0 and total + wanted > p_bytes_total then
        outcome := 'attachment_bytes_total';
        return;
    end if;
    update attachment_usage u set day = usage.day, declared_bytes = usage.declared_bytes + wanted
    where u.user_id = p_user;
    -- This counts the stored bytes (count_stored_bytes).
    insert into attachments (
        id, user_id, object_key, size_bytes, media_type, digest, part_digests, thumbnail_of, is_avatar)
    select f.id, p_user, f.key, f.size_bytes, f.media_type, f.digest, f.part_digests, f.thumbnail_of, p_are_avatars
    from unnest(p_ids, p_keys, p_sizes, p_media_types, p_digests, p_part_digests, p_thumbnail_of)
        with ordinality f(id, key, size_bytes, media_type, digest, part_digests, thumbnail_of, n)
    order by f.n;
    outcome := 'declared';
end $$;
