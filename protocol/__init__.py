"""The wire protocol of ALO Shield, without any I/O: bytes in, frames out.

`protocol/SPEC.md` describes it for authors of clients, `protocol/alo.cddl` is its grammar, and `protocol/vectors` has
messages with their meanings to test an implementation with. Nothing here knows of sockets, clocks, logs or Trio, so the
server, the client and the tests share one implementation.

| module | about |
|---|---|
| `numbers` | the integers on the wire: the key of each field, the type of each frame |
| `requests`, `replies`, `pushes` | one struct for each frame |
| `frames` | all of these, to be imported from one place |
| `websocket` | bytes to WebSocket messages, after the opening handshake |
| `items`, `fields` | the maps in a WebSocket message; the check of each field |
| `codec`, `encoded` | CBOR sequences to frames and back; reading and extending encoded frames without decoding them |
| `states` | the frames that may come in each state of a connection |
| `errors` | the exceptions: for the peer's faults, and for our own |
| `codes` | error and close codes, each with the receiver's next step |
| `limits` | every bound, with its unit and its reason |
| `features` | the names of everything that a server can do beyond the basics |
| `envelopes` | rules for all envelopes of a frame together |
| `undecryptable` | why a device could not decrypt a message |
| `uploaded_keys` | rules for all keys of a frame together |
| `ids` | UUIDs of version 7 |
"""
