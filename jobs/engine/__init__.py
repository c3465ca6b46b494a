"""The job queue and the worker, for any task.

| module | about |
|---|---|
| `task` | a task: its handler, its arguments, and how its jobs run |
| `job` | the first argument of each handler, and the errors that a handler may raise |
| `queue` | enqueues and cancels jobs, and reads their state |
| `streams` | the streams in Redis: names, bounds, entries |
| `volatile` | volatile jobs in Redis: ids, keys, delays, cancellation |
| `consumer_group` | takes entries, keeps them, takes them over from dead workers, finishes them |
| `progress` | progress reports and results in Redis |
| `lua` | scripts that run inside Redis |
| `worker` | the process: starts the parts below, and stops them in order |
| `relay` | hands due jobs in from Postgres to Redis |
| `scheduler` | enqueues scheduled jobs |
| `ticks` | computes when a schedule is due |
| `fetcher` | takes entries for the runner |
| `runner` | all runs of a worker |
| `pace` | how many jobs of a quick task the fetcher takes before there is room |
| `run` | one run, from its payload to its ending |
| `acknowledger` | writes endings to Postgres, then to Redis |
| `heartbeat` | keeps a worker's entries and claims |
| `monitor` | reads which tasks are paused, and counts jobs |
| `metrics` | counters, gauges and histograms of a worker |
"""
