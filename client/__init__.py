"""The reference client of ALO Shield: a library and, with `python -m client`, a command line.

The content of messages is opaque bytes to the server. This client doesn't encrypt: what it is given it sends. A
real client encrypts before `send` and decrypts after receiving.

| module | about |
|---|---|
| `http` | accounts, lists and history over HTTP |
| `dial`, `tls`, `stream`, `websocket` | from the URL of a gateway to a WebSocket |
| `connection`, `pending` | one connection: requests wait for their replies, pushes are handed on |
| `requests` | a method for each request |
| `link` | a connection that is made anew, with a token that is renewed |
| `mailbox`, `marks` | what this device holds, without any I/O: order, duplicates, revisions, holes, marks |
| `session` | a device that stays connected and misses nothing: link + mailbox |
| `signs` | who is online and who types |
| `errors` | everything that these raise |
| `reasons`, `rules` | why something failed, in words for a person; what the server will refuse |
| `chat`, `commands`, `__main__` | the command line; what can be typed in a chat |

`js/` is another client, in JavaScript, written from the specification alone.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""Of this client, and of the server that it comes with."""
