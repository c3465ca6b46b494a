"""Sockets of clients, from accepting them to the last byte. No module here knows the store.

| module | about |
|---|---|
| `listener` | accepting sockets |
| `room` | how many connections are open; which of them give way to others |
| `admission` | connections and requests per client; how many connections are greeted at the same time |
| `addresses` | the client's address of a connection: it reads the header of a proxy |
| `proxies` | the client's address behind load balancers: trusted proxies, PROXY protocol, `X-Forwarded-For` |
| `handshake`, `upgrade` | the opening handshake of a WebSocket: any by trio-websocket; the usual form without it |
| `wire_counts` | counts of frames, bytes, lags and cuts |
| `stream` | a client's socket, as its connection reads and closes it |
| `outbox` | the frames that a client has yet to read, bounded in bytes; a slow client gets one `lag` |
| `keepalive` | pings of silent connections, and the end of those that stay silent |
"""
