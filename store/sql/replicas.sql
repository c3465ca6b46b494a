-- name: replayed
-- Whether a standby has everything up to a place in the log of the primary, and the history that it follows.
select coalesce(pg_last_wal_replay_lsn() >= %(place)s::text::pg_lsn, false), standby_history();

-- name: place
-- The place in the log of the primary, behind all that it has acknowledged, and the history.
select pg_current_wal_lsn()::text, history_id();

-- name: behind
-- The bytes of the primary's log, up to a place, that a standby has yet to replay; and the history that it follows.
select pg_wal_lsn_diff(%(place)s::text::pg_lsn, pg_last_wal_replay_lsn())::bigint, standby_history();
