"""Redis on Trio.

| module | about |
|---|---|
| `client` | one pipelined connection for all tasks of a process; connections for commands that block |
| `servers` | finds the master by the sentinels, connects and logs in; Redis' errors |
| `url` | the forms of REDIS_URL |
| `script` | Lua scripts, called by their digest |
| `rates`, `lua` | counts of requests and of guesses of passwords; their scripts |
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
