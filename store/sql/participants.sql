-- name: add
-- See add_participant() in functions/.
select outcome, participant_ids, participants_version, wait_s
from add_participant(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid, %(limit)s, %(starts)s::int,
                     %(places)s::int);

-- name: accept
-- See accept_request() in functions/.
select outcome, participant_ids, participants_version from accept_request(%(user)s::uuid, %(conversation)s::uuid);

-- name: decline
-- See decline_request() in functions/.
select outcome, participants_version from decline_request(%(user)s::uuid, %(conversation)s::uuid);

-- name: remove
-- See remove_participant() in functions/.
select outcome, participant_ids, participants_version, was_participant, heir, delivered_seq, read_seq, since_seq,
       left_seq
from remove_participant(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid);

-- name: last_stay
-- The latest stay of a user in a conversation that has ended, as the others see it. No row: there is none.
select s.user_id, s.delivered_seq, s.read_seq, s.since_seq, s.removed_by, s.left_seq
from former_stays(%(conversation)s::uuid) s where s.user_id = %(user)s::uuid order by s.departed desc limit 1;

-- name: set_role
-- See set_role() in functions/.
select outcome, participant_ids, participants_version
from set_role(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid, %(role)s);

-- name: change
-- See change_conversation() in functions/.
select outcome, participant_ids, participants_version, name, floor_seq, joiners_see_all, lifetime_s, settings_by,
       others_lifetime_s, others_settings_by, avatar
from change_conversation(%(user)s::uuid, %(conversation)s::uuid, %(name)s::text, %(avatar)s::uuid,
                         %(joiners_see_all)s::boolean, %(lifetime_s)s::int);

-- name: mute
-- Mutes a conversation for a user for the given seconds; 0 ends it. No row: the user takes no part.
update participants set muted_until = case when %(seconds)s > 0 then now() + make_interval(secs => %(seconds)s) end,
                        own_revision = own_revision + 1, own_changed = pg_current_xact_id()
where conversation_id = %(conversation)s::uuid and user_id = %(user)s::uuid
returning user_id;
