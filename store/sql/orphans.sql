-- name: orphaned
-- A batch of orphaned attachments. Uploads that nothing took in time become orphaned here; from then on nothing can take
-- them. A send that attaches one of them at the same moment has its row locked, so the row is skipped; so has a change of
-- an avatar.
with batch as (
    select a.id from attachments a
    where a.conversation_id is null and not a.is_shown
      and (a.orphaned is not null or a.created < now() - make_interval(secs => %(unused_s)s))
      and a.object_key <> all(%(but)s::text[])
    order by a.created limit %(limit)s for update skip locked
)
update attachments a set orphaned = coalesce(a.orphaned, clock_timestamp())
from batch b where a.id = b.id
returning a.id, a.object_key, a.upload;

-- name: remove
-- The rows of orphaned attachments whose objects are gone; see remove_attachments() in functions/.
select remove_attachments(%(ids)s::uuid[]);

-- name: orphan_below_floors
-- Take the attachments from messages that lie below their conversation's floor, in some conversations after the one with
-- this id, in order of ids. One row: the last conversation and how many they were, null and 0 if there are none beyond.
-- From one conversation with attachments to the next by the index, not from one attachment to the next.
with recursive conversation(id, n) as (
    (select a.conversation_id, 1 from attachments a
     where a.conversation_id > %(after)s::uuid order by a.conversation_id limit 1)
    union all
    select (select a.conversation_id from attachments a
            where a.conversation_id > c.id order by a.conversation_id limit 1), c.n + 1
    from conversation c where c.id is not null and c.n < %(limit)s
), batch as (
    select below.id from conversation v
    cross join lateral (select c.floor_seq from conversations c where c.id = v.id) c
    cross join lateral (
        select a.id from attachments a
        where a.conversation_id = v.id and a.seq <= c.floor_seq
        order by a.seq limit %(each)s for update skip locked
    ) below
), orphaned as (
    -- As an array: else a plan without statistics expects far more of them, and reads the whole table.
    update attachments a set conversation_id = null, seq = null where a.id = any(array(select b.id from batch b))
)
-- (There is no max() of uuid.)
select (select v.id from conversation v where v.id is not null order by v.n desc limit 1),
       (select count(v.id) from conversation v);

-- name: unknown_objects
-- Those keys of which no attachment knows, and which were written so long ago that the row would be there.
select o.key from unnest(%(keys)s::text[], %(modified)s::bigint[]) o(key, modified)
where o.modified < extract(epoch from now() - make_interval(secs => %(unused_s)s)) * 1000000
  and not exists (select from attachments a where a.object_key = o.key);

-- name: unknown_multiparts
-- Those open multipart uploads that belong to no upload that is still to be completed, and that began so long ago that
-- its row would name them.
select o.key, o.upload from unnest(%(keys)s::text[], %(uploads)s::text[], %(begun)s::bigint[]) o(key, upload, begun)
where o.begun < extract(epoch from now() - make_interval(secs => %(unused_s)s)) * 1000000
  and not exists (
      select from attachments a
      where a.object_key = o.key and a.upload = o.upload and a.completed is null and a.orphaned is null
  );

-- name: missing_objects
-- Complete attachments whose keys lie beyond one and up to another, and are not among some keys, those of a list of the
-- object store. They were complete for so long that the list should have had them. One row: how many, and the first keys.
select count(*), coalesce((array_agg(a.object_key order by a.object_key))[1:%(shown)s], '{}')
from attachments a
where a.object_key > %(after)s and (%(upto)s = '' or a.object_key <= %(upto)s)
  and a.completed < now() - make_interval(secs => %(complete_s)s) and a.orphaned is null
  and not a.object_key = any(%(keys)s::text[]);

-- name: position
-- Where a sweep is, and how often it has moved.
select position, moves from sweeps where task = %(task)s;

-- name: move
-- Where a sweep is now, if it has not moved since it was asked for. No row: it has.
insert into sweeps as s (task, position, moves) values (%(task)s, %(position)s, 1)
on conflict (task) do update set position = excluded.position, moves = s.moves + 1 where s.moves = %(moves)s
returning moves;
