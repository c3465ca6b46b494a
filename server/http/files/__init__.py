"""Files of a folder that is the object store: `web` takes and sends them at `/files/`, by signed URLs (decision 41).

| module | about |
|---|---|
| `service` | a request: its limits, its ticket, its answer or the problem |
| `uploads`, `downloads` | the body of a PUT, into a file; a file, or a range of it, as an answer |
| `ranges` | ranges that a client asks for, and whether it holds the file |
| `slices` | a few MiB between a socket and a file, in a thread |
| `threads` | threads of low priority, and what they share with the task that they work for |
| `progress` | the deadline of a transfer: by what it has moved |
| `wire` | the connection of a request, as this package needs it |
"""
