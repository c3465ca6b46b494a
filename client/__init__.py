"""The reference client of ALO Shield: a library and, with `python -m client`, a command line.

The content of messages is opaque bytes to the server. This client doesn't encrypt: what it is given it sends. A
real client encrypts before `send` and decrypts after receiving.

| module | about |
|---|---|
| `http` | accounts, lists and history over HTTP |
| `connection` | one WebSocket connection: requests, their replies, pushes |
| `mailbox` | what this device holds, without any I/O: order, duplicates, holes, marks |
| `session` | a device that stays connected and misses nothing: connection + HTTP + mailbox |
| `errors` | everything that these raise |
| `__main__` | the command line |
"""
