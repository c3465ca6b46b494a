"""The reference client of ALO Shield: a library and, with `python -m client`, a command line.

The content of messages is opaque bytes to the server. `e2ee` encrypts it, where the library for that is installed;
`session` by itself sends and gives bytes as they are.

| module | about |
|---|---|
| `dial`, `tls`, `stream`, `websocket` | from the URL of a gateway to a WebSocket |
| `requests` | a method for each request |
| `connection`, `pending` | one connection: requests wait for their replies, pushes go to a callback |
| `link`, `backoff` | a connection that reconnects whenever it is lost, and renews its token |
| `renewal` | the renewal of a token in turn by all programs that share its login |
| `mailbox` | all conversations that this device holds, and its cursor; like the next four without any I/O |
| `held`, `participants` | one conversation and its messages; its participants |
| `known_devices`, `addressing` | devices of users, and what has changed of them; sending for a device set |
| `own`, `marks` | the user's own settings and contacts; marks that the server has yet to hear of |
| `synchronizer`, `mark_sender`, `watcher` | the tasks that keep the mailbox and the server up to date |
| `session`, `follower` | a device that stays connected and misses nothing: link + mailbox |
| `send_order` | the order in which its messages go out |
| `control_chain` | control messages, each of which follows the one before it |
| `uploads`, `downloads`, `file_parts`, `object_store` | files, in parts, to and from the object store |
| `http`, `bodies` | accounts, lists and history over HTTP; the bodies of the answers |
| `errors` | all exceptions of these modules |
| `reasons`, `rules` | causes of failures in words for a person; the server's rules for names, passwords and titles |
| `signs` | the users who are online and who type |
| `e2ee` | end-to-end encryption: keys, sessions with other devices, plaintexts |
| `cli`, `__main__` | the commands |
| `chat`, `chat_failures`, `commands`, `directory`, `lines`, `login`, `terminal` | the command line |
| `message_lines` | messages as lines, also those that can be read only later |
| `unlock`, `writers`, `safety` | keys, encryption and safety numbers in the command line |
| `chat_files`, `sealed_files`, `upload_log`, `progress` | files in a chat of the command line |
| `conformance`, `conformance_keys` | the adapter for the conformance kit; its keys |
| `nursery` | nurseries for context managers |

`js/` is a second client, in JavaScript, written from the specification alone.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""The version of this client and of the server that it comes with."""
