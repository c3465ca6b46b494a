-- name: add
-- See add_envelopes() in functions/. The columns of the message are those of message_of() in store/rows.py.
select a.outcome, a.participant_ids, a.envelope_devices, a.envelope_bodies, a.refused_for,
       (a.message).seq, (a.message).id, (extract(epoch from (a.message).created) * 1000000)::bigint, (a.message).sender_id,
       (a.message).content_type, (a.message).content, (a.message).nonce, (a.message).ephemeral_public_key,
       nullif((a.message).revision, 0)::bigint, (extract(epoch from (a.message).edited) * 1000000)::bigint,
       (a.message).reply_to, (a.message).attachments, (a.message).thumbnail, (a.message).temp_id, (a.message).device_id,
       (a.message).is_quiet, nullif((a.message).quiet_count, 0), false, (a.message).deleted_by,
       (a.message).has_envelopes, (a.message).follows
from add_envelopes(%(user)s::uuid, %(device)s::uuid, %(conversation)s::uuid, %(seq)s, %(revision)s, %(envelopes)s::bytea,
                   %(envelope_devices)s::uuid[], %(envelope_ends)s::bigint[], %(envelope_parts)s::int) a;

-- name: report
-- See report_undecryptable() in functions/.
select report_undecryptable(%(user)s::uuid, %(device)s::uuid, %(conversation)s::uuid, %(seq)s, %(revision)s, %(reason)s,
                            %(most)s::int, %(most_open)s::int, %(days)s::int);

-- name: reported_since
-- What was reported lately and is not healed: conversation, seq, the user and the device that asks, revision, reason, the
-- sender, and the sender's device that is to be told, or null for each of the others.
select o.conversation_id, o.seq, o.user_id, o.device_id, o.revision, o.reason, o.sender_id, o.told_device,
       (extract(epoch from o.at) * 1000000)::bigint
from open_reports o
where o.at between now() - make_interval(secs => %(ago_s)s) and 'infinity';

-- name: told_reports
-- What a device is told of messages that others cannot decrypt: as of reported_since. The users who report have a turn each,
-- with their latest report first, so that no user's many reports hide those of others.
select o.conversation_id, o.seq, o.user_id, o.device_id, o.revision, o.reason, o.sender_id, o.told_device,
       (extract(epoch from o.at) * 1000000)::bigint
from (
    select o.*, row_number() over (partition by o.user_id order by o.at desc) as turn
    from open_reports o
    where o.sender_id = %(user)s::uuid and o.at > now() - make_interval(days => %(days)s)
      and o.device_id <> %(device)s::uuid and (o.told_device is null or o.told_device = %(device)s::uuid)
) o
order by o.turn, o.at desc limit %(limit)s;

-- name: forget
-- Deletes reports that are older than the given days, the oldest first, a batch at a time. One row: how many.
with gone as (
    delete from undecryptable u where u.ctid = any(array(
        select o.ctid from undecryptable o
        where o.at < now() - make_interval(days => %(days)s) order by o.at limit %(limit)s for update skip locked
    )) returning 1
)
select count(*) from gone;
