"""People connected to this node.

The gateway (process `socket`), from the wire inwards:

| module | about |
|---|---|
| `listener` | accepts sockets; no connection's trouble is another's |
| `admission`, `proxies` | how much one client may take, and whose address a connection counts for |
| `connection`, `handshake` | one client: reads frames, serves them, closes |
| `stream`, `outbox` | a client's socket: what comes, and what it has yet to read, bounded, sent in one system call |
| `keepalive`, `revocations` | connections that nobody holds any more, or may hold no longer |
| `sends`, `marks` | requests to batches, batches to replies and pushes |
| `requests`, `replies` | requests that are looked up one by one; what is said of errors |
| `hub` | which connections each user has here; pushes in `seq` order (`sequencer`) |
| `fanout` | pushes for users on other nodes |
| `node` | this node among the others: lease, directory, catching up after a gap |
| `cursor_advance`, `missed_pushes` | cursors of connected devices move on after a look for lost pushes |
| `unknown_outcomes` | writes whose outcome is not known: made certain, and found by the nodes |
| `presence` | who is online, for those who watch |
| `last_seen`, `delivery` | who was here on which day, and how long deliveries take |
| `readers` | who has read, so that notices on other devices are withdrawn |
| `gateway` | wires them together; the nesting of nurseries is the order of shutdown |

The HTTP interface (process `web`): `web` runs it, `http` has its routes; `bodies`, `notifiers`, `passwords` and
`mail_pages` (what links in mails lead to) serve them; `ops` is what operators may ask.
"""
