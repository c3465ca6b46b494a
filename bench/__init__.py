"""Benchmarks: what a send costs, and how long it takes, beside other servers on the same machine.

| module | about |
|---|---|
| `load` | the load generator's command line; prints one JSON line for each load |
| `generator` | its loop: one thread, one epoll, any number of connections |
| `pace` | when to send: after each reply, or at a fixed rate |
| `websocket` | just enough of RFC 6455 for a client |
| `adapters` | what is said over the WebSocket, one module for each protocol |
| `recorder`, `cpu` | latencies and processor time of a stretch of time |
| `compare` | servers in turn on one Postgres and one Redis; prints runs and summaries |
| `summary` | medians, spreads, ratios and whether the speed requirement holds |
| `queue`, `queue_ours` | the job queue, beside BullMQ |
| `ours`, `peers`, `processes`, `databases` | starting what is measured, and the data it needs |

Standard output carries JSON lines and nothing else; people read standard error.
"""
