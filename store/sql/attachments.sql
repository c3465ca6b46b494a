-- name: declare
-- See declare_attachments() in functions/.
select declare_attachments(
    %(user)s::uuid, %(ids)s::uuid[], %(keys)s::text[], %(sizes)s::bigint[], %(media_types)s::text[],
    %(digests)s::bytea[], %(part_digests)s::bytea[], %(thumbnail_of)s::uuid[], %(are_avatars)s::boolean,
    %(open_uploads_per_user)s::bigint, %(attachment_bytes_per_day)s::bigint, %(attachment_bytes_per_user)s::bigint,
    %(attachment_bytes_total)s::bigint);

-- name: uploads
-- Those of some attachments that a user has declared and not given up, in order of ids; and their thumbnails.
select a.id, a.object_key, a.size_bytes, a.digest, a.part_digests, a.upload, a.thumbnail_of, a.completed is not null
from attachments a
where (a.id = any(%(ids)s::uuid[]) or a.thumbnail_of = any(%(ids)s::uuid[])) and a.user_id = %(user)s::uuid
  and a.orphaned is null
order by a.id;

-- name: note_multipart
-- Notes the object store's name of a multipart upload, instead of the one that it had. No row: another request was
-- quicker, or the upload is complete or given up.
update attachments a set upload = %(upload)s
where a.id = %(id)s::uuid and a.upload is not distinct from %(former)s::text and a.completed is null
  and a.orphaned is null
returning true;

-- name: complete
-- See complete_attachments() in functions/.
select complete_attachments(%(user)s::uuid, %(ids)s::uuid[]);

-- name: give_up
-- See give_up_attachments() in functions/.
select outcome, ids, keys, uploads from give_up_attachments(%(user)s::uuid, %(ids)s::uuid[]);

-- name: note_sizes
-- See note_sizes() in functions/.
select note_sizes(%(ids)s::uuid[], %(sizes)s::bigint[]);

-- name: readable
-- Those of some attachments that a user may read now: the attachments of messages, with their thumbnails; the avatars of
-- users, but for those that the user blocks; and the avatars of groups where the user takes part.
select a.id, a.object_key, a.size_bytes, a.media_type, a.digest, a.thumbnail_of, false, a.is_sized
from attachments a
join participants p on p.conversation_id = a.conversation_id and p.user_id = %(user)s::uuid
join conversations c on c.id = a.conversation_id
cross join lateral (select from readable_messages(c.id, p.user_id, floor_of(c, p)) m where m.seq = a.seq and not m.is_gone) m
where a.id = any(%(ids)s::uuid[]) or a.thumbnail_of = any(%(ids)s::uuid[])
union all
select a.id, a.object_key, a.size_bytes, a.media_type, a.digest, null, true, a.is_sized
from attachments a
where a.id = any(%(ids)s::uuid[]) and a.is_shown and (
    exists (select from users u where u.avatar = a.id and not is_blocked(%(user)s::uuid, u.id))
    or exists (
        select from conversations c
        join participants p on p.conversation_id = c.id and p.user_id = %(user)s::uuid
        where c.avatar = a.id));
