-- name: edit
-- See edit_message() in functions/.
select outcome, id, created, revision, edited, participant_ids, reply_to, hidden_for, temp_id, is_quiet,
       nullif(quiet_count, 0), has_envelopes, follows, envelope_devices, envelope_bodies, devices_version, refused_for
from edit_message(%(user)s::uuid, %(conversation)s::uuid, %(seq)s, %(revision)s, %(content_type)s, %(content)s,
                  %(nonce)s, %(ephemeral_public_key)s, %(attachments)s::uuid[], %(thumbnail)s, %(device)s::uuid,
                  %(devices_version)s::bigint, %(envelopes)s::bytea, %(envelope_devices)s::uuid[], %(envelope_ends)s::bigint[],
                  %(envelope_digest)s::bytea, %(envelope_parts)s::int);

-- name: delete_for_everyone
-- See delete_message() in functions/.
select outcome, id, created, sender, participant_ids, actor, is_quiet, nullif(quiet_count, 0)
from delete_message(%(user)s::uuid, %(conversation)s::uuid, %(seq)s);

-- name: delete_for_me
-- See hide_message() in functions/.
select outcome, id, created, sender, array[%(user)s::uuid], actor, is_quiet, nullif(quiet_count, 0)
from hide_message(%(user)s::uuid, %(conversation)s::uuid, %(seq)s);

-- name: revised_since
-- The messages that were edited or deleted lately in the conversations of some users, each with the users to be told,
-- for a node that may have missed the changes. "and infinity" makes it a range: without it, Postgres expects a third of
-- the table.
with recent as (
    select r.conversation_id, r.seq, null::uuid as user_id from revisions r
    where r.at between now() - make_interval(secs => %(ago_s)s) and 'infinity'
    union all
    select h.conversation_id, h.seq, h.user_id from hidden h
    where h.at between now() - make_interval(secs => %(ago_s)s) and 'infinity' and h.user_id = any(%(users)s::uuid[])
)
select m.conversation_id, m.seq, m.id, (extract(epoch from m.created) * 1000000)::bigint, m.sender_id, m.content_type,
       m.content, m.nonce, m.ephemeral_public_key, nullif(m.revision, 0),
       (extract(epoch from m.edited) * 1000000)::bigint, m.reply_to, m.attachments, m.thumbnail, m.temp_id,
       m.device_id, m.is_quiet, nullif(m.quiet_count, 0), m.deleted is not null or r.user_id is not null, case when r.user_id is null then m.deleted_by end,
       m.has_envelopes, m.follows,
       concerned.users
from recent r
-- The limits make Postgres look up each by its key: without statistics it would read the whole table.
cross join lateral (select * from conversations c where c.id = r.conversation_id limit 1) c
cross join lateral (select * from messages m where m.conversation_id = r.conversation_id and m.seq = r.seq limit 1) m
cross join lateral (
    select array_agg(told.user_id) as users from (
        select h.user_id from holders_of(c, m) h where r.user_id is null and h.user_id = any(%(users)s::uuid[])
        union all
        -- The user who has deleted the message, as when that is pushed.
        select h.user_id from hiders_of(c, m) h where h.user_id = r.user_id
    ) told
) concerned
where concerned.users is not null;


-- name: forget
-- Deletes revisions that are older than the given days, the oldest first, a batch at a time: no cursor asks for them.
-- One row: how many.
with gone as (
    delete from revisions r using (
        select o.conversation_id, o.seq from revisions o
        where o.at < now() - make_interval(days => %(days)s) order by o.at limit %(limit)s
    ) old
    where r.conversation_id = old.conversation_id and r.seq = old.seq
    returning 1
)
select count(*) from gone;
