"""What outlives a process: the only place where Trio meets Postgres and Redis.

| module | about |
|---|---|
| `postgres`, `pool` | psycopg driven by Trio; connections that survive cancellation or are closed |
| `statement`, `columns` | the statements of the hot path, with their types written down |
| `reads` | reads that queue up share a round trip |
| `queue`, `batch` | group commit: what queued, fairly, during one commit goes out with the next |
| `lanes` | what is locked elsewhere goes a way of its own |
| `redis` | one pipelined Redis connection for all tasks |
| `messages`, `revisions`, `marks`, `conversations`, `retention` | a function for each query |
| `participants`, `participants`, `contacts`, `accounts`, `last_seen`, `outbox` | the same |
| `emails`, `email_address` | where users get mail, and what of; which addresses there can be |
| `objects` | the object store, as its callers see it |
| `objects_folder`, `objects_s3`, `objects_url` | it in a folder, in an S3-compatible service (`sigv4`), and which |
| `archive` | messages put away in the object store, and read back (`python -m store archive`) |
| `orphans` | attachments that no message has, and objects that no attachment knows of |
| `analytics`, `latencies` | figures by day; a histogram of how long deliveries take |
| `notifiers`, `quiet_hours` | how users are told that something waits for them, and when not |
| `cache` | values that are checked against a version on each use |
| `sync` | what is new since a cursor |
| `directory`, `bus` | which node holds which user, and what nodes tell each other |
| `clock` | what time it is by Postgres |
| `migrate` | numbered SQL files, applied under a lock (`python -m store migrate`) |
| `smtp_url`, `redis_url` | URLs of mail servers and of Redis |
| `config`, `process` | every environment variable, with its default; running a process by them |
| `early_signals`, `signals` | being told to stop, before anything has begun and after |
| `log`, `log_limit` | logs for people or programs; what lasts is logged once a minute |
| `open_files` | how many files a process may open |
"""
