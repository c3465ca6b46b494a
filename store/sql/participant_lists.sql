-- name: participant_counts
-- How many users take part in some conversations, as they are shown to each other; for each pair of a conversation and a
-- user who takes part in it. No row for a pair of others.
select asked.conversation_id, asked.user_id, c.participant_count
from unnest(%(conversations)s::uuid[], %(users)s::uuid[]) asked(conversation_id, user_id)
cross join lateral (
    select from participants p where p.conversation_id = asked.conversation_id and p.user_id = asked.user_id limit 1
) p
cross join lateral (select c.participant_count from conversations c where c.id = asked.conversation_id limit 1) c;

-- name: watchable
-- The users, among some, whose presence a user may watch: they show their presence, and either share a conversation
-- with the user that they have accepted, or have the user as a contact. The user, too. A blocker of the user comes with
-- the time since when they seem offline. Users whom the user blocks are left out.
select u.id, blocker.id is not null, (extract(epoch from blocker.last_seen) * 1000000)::bigint
from (select distinct unnest(%(users)s::uuid[])) given(id)
cross join lateral (select u.id, u.shows_presence from users u where u.id = given.id limit 1) u
left join lateral (
    select b.user_id as id, b.last_seen from contacts b
    where b.user_id = u.id and b.contact_id = %(user)s::uuid and b.is_blocked limit 1
) blocker on true
where (u.id = %(user)s::uuid or u.shows_presence)
  and not is_blocked(%(user)s::uuid, u.id)
  and (exists (select from contacts k where k.user_id = u.id and k.contact_id = %(user)s::uuid and k.is_contact)
       or u.id in (select p.user_id from participants me
                   join participants p on p.conversation_id = me.conversation_id and p.user_id = any(%(users)s::uuid[])
                   where me.user_id = %(user)s::uuid and (p.asked_by is null or p.user_id = %(user)s::uuid)));

-- name: unwatchable
-- The pairs (user, watched user), among some, in which the user may not watch the other, or the other blocks the user.
-- is_shown: the latter, with the time since when the blocker seems offline; see watchable.
select given.user_id, given.watched_id,
       allowed.is_shown, case when allowed.is_shown then (extract(epoch from blocker.last_seen) * 1000000)::bigint end
from unnest(%(user)s::uuid[], %(watched)s::uuid[]) given(user_id, watched_id)
left join lateral (select u.id, u.shows_presence from users u where u.id = given.watched_id limit 1) u on true
left join lateral (
    select b.user_id as id, b.last_seen from contacts b
    where b.user_id = given.watched_id and b.contact_id = given.user_id and b.is_blocked limit 1
) blocker on true
cross join lateral (
    select coalesce(
        (u.id = given.user_id or u.shows_presence)
        and not is_blocked(given.user_id, u.id)
        and (u.id = given.user_id
             or exists (select from contacts k where k.user_id = u.id and k.contact_id = given.user_id and k.is_contact)
             or exists (select from participants me
                        join participants p on p.conversation_id = me.conversation_id and p.user_id = u.id
                        where me.user_id = given.user_id and p.asked_by is null)), false) as is_shown
) allowed
where not allowed.is_shown or blocker.id is not null;

-- name: acquainted
-- The users who see a user in some list of participants, where not too many take part. The user, too.
select distinct p.user_id
from shown_participants me
-- The limits make Postgres look up each by its key: without statistics it would read whole tables.
cross join lateral (select c.participant_count from conversations c where c.id = me.conversation_id limit 1) c
cross join lateral (
    select p.user_id from participants p where p.conversation_id = me.conversation_id limit %(most)s
) p
where me.user_id = %(user)s::uuid and c.participant_count <= %(most)s;

-- name: changed_since
-- Changes other than messages since a snapshot, in the conversations of some users, which a node may have missed. For
-- each conversation: its id; whether participants or what is shown of them have changed; the participants; up to which
-- seq counts of receipts are to be told, where many take part and marks have moved; the participants whose marks have
-- moved, where not too many take part, with the marks that others see, the read mark that the reader sees, and how many of
-- the messages up to that are quiet (null: no message is, or it is not known); and the settings, with the floor if it has
-- moved, and how many of the messages up to it are quiet.
with mine as materialized (
    select distinct p.conversation_id from participants p where p.user_id = any(%(users)s::uuid[])
)
select c.id, unseen(c.participants_changed, %(base)s::pg_snapshot) or who.is_changed or coalesce(devices.are_devices_new, false), who.users,
       case when who.is_counted then c.last_seq end,
       coalesce(who.movers, '{}'), coalesce(who.delivered, '{}'), coalesce(who.read, '{}'),
       coalesce(who.own_read, '{}'), coalesce(who.own_quiet, '{}'),
       case when unseen(c.floor_changed, %(base)s::pg_snapshot) then c.floor_seq end, c.name, c.participants_version,
       c.joiners_see_all,
       c.lifetime_s, c.settings_by, (select v.told from avatars v where v.id = c.avatar),
       case when c.quiet_count > 0 then quiet_at(c, c.floor_seq) end
from mine
join conversations c on c.id = mine.conversation_id
cross join lateral (
    select array_agg(p.user_id) as users, c.participant_count <= %(most)s and bool_or(p.is_changed) as is_changed,
           c.participant_count > %(most)s and bool_or(p.has_moved) as is_counted,
           array_agg(p.user_id) filter (where p.is_marked) as movers,
           array_agg(p.delivered_seq) filter (where p.is_marked) as delivered,
           array_agg(p.read_seq) filter (where p.is_marked) as read,
           array_agg(greatest(p.read_seq, p.private_read_seq)) filter (where p.is_marked) as own_read,
           array_agg(case when c.quiet_count > 0 then quiet_at(c, greatest(p.read_seq, p.private_read_seq)) end)
               filter (where p.is_marked) as own_quiet
    from (
        select p.*,
               unseen(p.changed, %(base)s::pg_snapshot) or exists (
                   select from withheld w where w.conversation_id = c.id and unseen(w.changed, %(base)s::pg_snapshot)
               )
               -- A user with a lifetime of their own sees settings of their own.
               or p.own_lifetime_s is not null and unseen(c.floor_changed, %(base)s::pg_snapshot) as is_changed,
               unseen(p.marked, %(base)s::pg_snapshot) as has_moved,
               unseen(p.marked, %(base)s::pg_snapshot) and c.participant_count <= %(most)s as is_marked
        from participants p where p.conversation_id = c.id
    ) p
) who
cross join lateral (
    select c.participant_count <= %(most)s and unseen(c.devices_changed, %(base)s::pg_snapshot) as are_devices_new
) devices
where unseen(c.participants_changed, %(base)s::pg_snapshot) or who.is_changed or who.movers is not null
  or devices.are_devices_new
  or who.is_counted
   or unseen(c.floor_changed, %(base)s::pg_snapshot);

-- name: departed_since
-- The stays of some users that have ended since a snapshot, with the conversation and the version of its list of
-- participants.
select c.id, c.participants_version, d.user_id, d.delivered_seq, d.read_seq, d.since_seq, d.removed_by, d.left_seq
from departures d join conversations c on c.id = d.conversation_id
where d.user_id = any(%(users)s::uuid[]) and unseen(d.changed, %(base)s::pg_snapshot);
