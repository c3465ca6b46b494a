"""A conformance kit for authors of clients: a server double that plays what a client must survive, and checks what the
client does (`README.md`).

This is the one folder of `protocol` that does I/O and knows a clock; nothing of the product imports it.

| module | about |
|---|---|
| `values` | the values of scenario files; patterns that frames and states have to match |
| `scenario` | scenario files |
| `talk`, `cursors` | the data of the double: one conversation; the cursors that it gives out |
| `own_writes` | what the tested client has written |
| `keys`, `devices` | the keys of the tested client's device; the devices of others |
| `double`, `offered` | the answers to requests; the features |
| `peer`, `handshake` | one connection of the double, and its opening handshake |
| `settled` | a client's state beside the data of the double |
| `gateway` | the sockets of the double |
| `stage` | the steps in which the server and other users act |
| `driver`, `by_hand` | the client under test: driven by an adapter, or by a person |
| `player`, `kit` | one scenario, step by step; all of them, several at a time |
| `words` | a scenario in words, for that person |
| `report`, `sections` | which scenarios and sections passed; the sections without a scenario |
"""
