"""Redis on Trio.

| module | about |
|---|---|
| `client` | Redis for all tasks of a process: the virtual buses, and the connection to the server of each |
| `buses` | names of the keys on each virtual bus |
| `cluster` | the masters of a Redis Cluster, and the connections to them |
| `redirects` | what a server of a cluster says of the masters; no I/O |
| `connection` | the connection to one server, opened again whenever it is lost; others for commands that block |
| `link` | one connection: reader, writer, commands in flight |
| `servers` | finds the master by the sentinels, connects and logs in; Redis' errors |
| `url` | the forms of REDIS_URL |
| `script` | Lua scripts, called by their digest |
| `lua` | the scripts |
| `rates` | counts of requests and of guesses of passwords |
| `directory` | which nodes are alive, and which of them holds which user |
| `bus` | one stream for each node, which that node alone reads |
| `entries` | the entries of these streams: pushes, hints and others, encoded |
| `figures` | figures that the processes share with operators who look |
| `eviction` | whether Redis keeps all keys when its memory is full |
| `traces` | traces of sampled messages, for the jobs of their notices |
| `addressing` | groups the users of a push by the node that holds them |
| `questions` | questions of operators to nodes, and their answers |
| `checks` | what the command `doctor` asks Redis about itself |
"""
