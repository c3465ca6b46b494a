"""The WebSocket gateway (process `socket`); `protocol/SPEC.md` describes it for clients.

A frame goes from `connection` to `sends` or `marks`, which commit in batches, or to `requests`, which answers one by
one. A request without a handler is a type error.

| module | about |
|---|---|
| `serve` | the process `socket`, with its port for operators and its traces |
| `process` | the gateway of the process: wires the parts together, and drains |
| `connection` | one client's connection: its states, its limits, its queue of requests |
| `budgets` | the cost that each user may cause on this node, and the turns of a user's connections |
| `requests` | a handler for each request that needs a look-up |
| `transfers` | requests about files in the object store |
| `keys` | requests about the keys of devices |
| `healing` | messages that devices cannot decrypt: reports, the devices that are told, further envelopes |
| `sends` | `send`, in group commits |
| `marks` | `mark_delivered` and `mark_read`, in batches; their receipts |
| `replies` | error replies |
| `recent_changes` | looks in Postgres for what has happened lately |
| `low_keys` | devices whose one-time keys run low |
| `revocations` | the end of connections whose device was revoked |
| `last_seen` | when users were online last, and on which days |
| `readers` | users who have read or written here, told to Postgres for their notices |
| `clients`, `delivery_times` | open connections by client; times from a commit to its delivered mark, by day |
| `delivery_hops` | times of messages from hop to hop |
| `samples` | the node's metrics, at a scrape |
| `description` | the node as it describes itself to an operator |
"""
