-- name: replayed
-- Of a standby: whether it has everything up to a place in the log of the primary, and the history that it follows.
select coalesce(pg_last_wal_replay_lsn() >= %(place)s::text::pg_lsn, false), standby_history();

-- name: place
-- Of the primary: the place in its log, behind all that it has acknowledged, and the history.
select pg_current_wal_lsn()::text, history_id();

-- name: behind
-- Of a standby: the bytes of the primary's log, up to a place, that it has yet to replay; and the history that it follows.
select pg_wal_lsn_diff(%(place)s::text::pg_lsn, pg_last_wal_replay_lsn())::bigint, standby_history();
