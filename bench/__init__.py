"""Benchmarks: what our server costs and how fast it is, beside other servers on the same machine (README.md).

Each program prints JSON lines to standard output, and text for people to standard error.

| module | about |
|---|---|
| `compare`, `contest`, `summary` | compare servers in turn, and summarize their runs |
| `command`, `program`, `threads`, `table` | options and set-up that the programs share; tables of their output |
| `campaign`, `curves`, `plots`, `results` | all comparisons, costs by one quantity, pictures, and a results file |
| `load`, `generator`, `mixed`, `pace` | the load generator: its command line, its loops, and when operations are due |
| `connection`, `websocket`, `adapters` | its connections, and the protocol of each server |
| `workload`, `mixture`, `rows` | chats, contents, operations and rows, the same for every server |
| `recorder`, `cpu`, `memory`, `wave` | measure latencies, CPU time, memory and connection times |
| `servers`, `ours`, `peers`, `processes`, `databases` | the servers under test, their processes and data |
| `wire` | bytes of a message on the wire |
| `across`, `nodes`, `buses` | several nodes: the way between two, a send as the cluster grows, or its Redis servers |
| `spread` | one port for several processes, or a port each |
| `fanout`, `hot`, `stuck`, `bystander` | groups: deliveries, all writing at once, a participant that stops reading |
| `abuse`, `abuser` | one user who costs a node as much as it allows, and everybody else |
| `locked`, `retrier` | a conversation that another transaction has locked |
| `openings`, `idle`, `storm`, `catchup`, `herd`, `device` | opening connections, idle ones, reconnects, catching up |
| `reads`, `reads_data`, `page_changes`, `http`, `http_paths` | reads over HTTP |
| `day`, `population` | a mixed day |
| `attachments`, `transfers` | files of a folder, beside nginx and beside sends; clients that upload and download |
| `attack`, `attackers`, `well_behaved` | attackers on a web process, beside users that behave |
| `sends`, `depth`, `hits`, `keys` | the store: group commit, ten million messages, caches, one-time keys |
| `replicas` | pages of history that a hot standby reads |
| `envelopes`, `batches` | sends with envelopes and of other kinds, beside plain ones; the same in one session |
| `costs`, `cost_picture` | where each microsecond of a send and of a delivery goes; the picture of it |
| `limits`, `postgres_costs`, `sampler` | what no server can avoid; a send in Postgres; the functions that run |
| `capacity`, `capacity_model`, `capacity_runs` | how large a deployment has to be, from measured costs |
| `guard`, `hot_path`, `instructions` | instructions of the pieces of the hot path, against stored ones |
| `moving_in` | an import of the database of the service before this one |
| `queue`, `queue_ours` | the job queue, beside BullMQ |
"""
