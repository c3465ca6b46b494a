"""The checks of `python -m server ops doctor`, by what they look at. Each finds something in order, or says what to do.

| module | about |
|---|---|
| `finding` | one result of a check |
| `configuration` | variables, proxies, TLS |
| `database` | Postgres: version, settings, schema, rights, clock, and what holds it up |
| `redis_servers` | Redis: version, eviction, persistence, memory, clock |
| `machine` | open files, disks, the object store |
"""
