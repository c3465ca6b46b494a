-- name: own
-- The envelopes of some messages, as of a revision each, for one device: the number of the message, and the bytes. No row for a
-- message without one, and none at all for a device that has lost its identity, as when it was revoked.
select i.n, substring(e.body from (coalesce(e.ends[e.place - 1], 0) + 1)::int
                     for (e.ends[e.place] - coalesce(e.ends[e.place - 1], 0))::int)
from unnest(%(conversations)s, %(seqs)s, %(revisions)s) with ordinality i(conversation_id, seq, revision, n)
cross join lateral (
    select e.body, e.ends, array_position(e.devices, %(device)s) as place from envelopes e
    where e.conversation_id = i.conversation_id and e.seq = i.seq and e.revision <= i.revision
      and %(device)s = any(e.devices)
    order by e.part desc limit 1
) e
where exists (select from devices d where d.id = %(device)s and d.identity is not null offset 0);

-- name: of_messages
-- The envelopes of some messages, as of a revision each, for all devices: the number of the message, and two arrays as of
-- latest_envelopes().
select i.n, l.devices, l.bodies
from unnest(%(conversations)s, %(seqs)s, %(revisions)s) with ordinality i(conversation_id, seq, revision, n)
cross join lateral latest_envelopes(i.conversation_id, i.seq, i.revision::int) l
where l.devices is not null;

-- name: forget
-- Deletes envelopes that are older than the given days, the oldest first, a batch at a time. Their messages stay. One row:
-- how many.
with gone as (
    delete from envelopes e using (
        select o.conversation_id, o.seq, o.part from envelopes o
        where o.created < now() - make_interval(days => %(days)s) order by o.created limit %(limit)s
    ) old
    where e.conversation_id = old.conversation_id and e.seq = old.seq and e.part = old.part
    returning 1
)
select count(*) from gone;
