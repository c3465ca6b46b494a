"""The wire protocol of ALO Shield, without any I/O: bytes in, frames out.

`protocol/SPEC.md` describes it for those who implement it, `protocol/alo.cddl` gives its grammar, and
`protocol/vectors` has messages with their meanings to test an implementation with. Nothing here knows of sockets,
clocks, logs or Trio, so that the server, the client and the tests share one implementation.

| module | about |
|---|---|
| `numbers` | the integers on the wire: the key of each field, the type of each frame |
| `requests`, `replies`, `pushes` | what can be said: one struct for each frame |
| `frames` | all of these, to be imported from one place |
| `websocket` | bytes to WebSocket messages, after the opening handshake |
| `items`, `fields` | the maps in a WebSocket message; what may be in each field of a frame |
| `codec`, `encoded` | CBOR sequences to frames and back; what is read from encoded frames without decoding them |
| `states` | in which state which frame may come |
| `errors` | what these raise: the peer's faults, and our own |
| `codes` | error and close codes, each with what its receiver does next |
| `limits` | every bound, with its unit and its reason |
| `features` | what a server can do, by name |
| `ids` | UUIDs of version 7 |
"""
