"""People connected to this node.

The gateway (process `socket`), from the wire inwards:

| module | about |
|---|---|
| `listener` | accepts sockets; no connection's trouble is another's |
| `connection` | one client: reads frames, serves them, closes |
| `stream`, `outbox` | a client's socket: what comes, and what it has yet to read, bounded, sent in one system call |
| `sends`, `marks`, `replies` | requests to batches, batches to replies and pushes |
| `hub` | which connections each user has here; pushes in `seq` order (`sequencer`) |
| `fanout` | pushes for users on other nodes |
| `node` | this node among the others: lease, directory, catching up after a gap |
| `gateway` | wires them together; the nesting of nurseries is the order of shutdown |

The HTTP interface (process `web`): `web` runs it, `http` has its routes, `bodies` and `passwords` serve them.
"""
