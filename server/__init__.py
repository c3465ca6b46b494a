"""The server: the gateway of WebSockets (process `socket`) and the HTTP interface (process `web`).

| folder | about |
|---|---|
| `transport` | sockets: accepting, limits for one client, the WebSocket handshake, bounded sending, keep-alive |
| `delivery` | pushes to connections of this node (the hub, in `seq` order) and to other nodes (the fan-out) |
| `cluster` | this node among the others: lease and directory, catching up after a gap, presence, unknown outcomes |
| `gateway` | WebSocket clients: connections, their requests, sends and marks in batches; the process `socket` |
| `http` | the HTTP interface: routes, errors, cached pages; the process `web` |
| `cli` | the commands of operators, `python -m server ops` |

`cli` stands on all others; `gateway` and `http` stand side by side on `cluster`, then `delivery`, then `transport` (the
contract `server` in setup.cfg). The table of each folder's modules is in its own `__init__.py`.
"""
