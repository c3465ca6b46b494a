"""Postgres on Trio.

| module | about |
|---|---|
| `driver` | with `copying` the only module that imports psycopg: one connection, its queries and errors |
| `copying` | COPY, for whole tables |
| `pool` | connections for all tasks of a process, with deadlines and bounded queues |
| `shared`, `reads` | requests that queue up share a round trip; reads do |
| `statement`, `columns` | prepared statements of the hot path; values in Postgres' binary format |
| `migrate` | numbered SQL files and stored functions, applied under a lock (`python -m store migrate`) |
| `backends` | processes of Postgres that may still run a write after its caller has given up, or that wait |
| `statement_watch` | names statements that wait, and the holders of the locks |
"""
