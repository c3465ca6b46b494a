"""The checks of `python -m server ops doctor`, by what they look at. Each finds something in order, or says what to do.

| module | about |
|---|---|
| `finding` | one result of a check |
| `configuration` | variables, proxies, TLS |
| `database` | Postgres: version, settings, schema, rights, clock, and what holds it up |
| `waits` | how soon Postgres answers: the way to it, locks, other waits |
| `redis_servers` | Redis: version, eviction, persistence, memory, clock |
| `processes` | the processes of this machine: whether each answers, hangs, or is not ready |
| `listeners` | the process behind a port |
| `outside` | the certificate in front, and the answer behind it |
| `machine` | open files, disks, the object store |
"""
