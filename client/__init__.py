"""The reference client of ALO Shield: a library and, with `python -m client`, a command line.

The content of messages is opaque bytes to the server. This client doesn't encrypt: what it is given it sends. A
real client encrypts before `send` and decrypts after receiving.

| module | about |
|---|---|
| `dial`, `tls`, `stream`, `websocket` | from the URL of a gateway to a WebSocket |
| `requests` | a method for each request |
| `connection`, `pending` | one connection: requests wait for their replies, pushes are handed on |
| `link`, `backoff` | a connection that is made anew whenever it is lost, with a token that is renewed |
| `mailbox` | all conversations that this device holds, and its cursor; like the next four without any I/O |
| `held`, `people` | one conversation and its messages; its participants |
| `own`, `marks` | the user's own settings and contacts; marks that the server has yet to hear of |
| `catch_up`, `mark_sender`, `watcher` | what keeps the mailbox and the server up to date |
| `session`, `follower` | a device that stays connected and misses nothing: link + mailbox |
| `http`, `bodies` | accounts, lists and history over HTTP; what is in the answers |
| `errors` | everything that these raise |
| `reasons`, `rules` | why something failed, in words for a person; what the server will refuse |
| `signs` | who is online and who types |
| `__main__`, `chat`, `commands`, `directory`, `login`, `terminal` | the command line |
| `nursery` | nurseries for context managers |

`js/` is another client, in JavaScript, written from the specification alone.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""Of this client, and of the server that it comes with."""
