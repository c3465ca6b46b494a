"""What outlives a process: the only place where Trio meets Postgres and Redis.

| module | about |
|---|---|
| `postgres`, `pool` | psycopg driven by Trio; connections that survive cancellation or are closed |
| `statement`, `columns` | the statements of the hot path, with their types written down |
| `redis` | one pipelined Redis connection for all tasks |
| `batch` | group commit: what queued during one commit goes out with the next |
| `messages`, `revisions`, `marks`, `conversations`, `members`, `accounts`, `outbox` | a function for each query |
| `sync` | what is new since a cursor |
| `directory`, `bus` | which node holds which user, and what nodes tell each other |
| `migrate` | numbered SQL files, applied under a lock (`python -m store migrate`) |
| `config` | every environment variable, with its default |
"""
