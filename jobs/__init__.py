"""Work that may wait: the process `worker`.

| module | about |
|---|---|
| `task`, `job` | what a task is: an asynchronous function, and how its jobs are to be run; what its handler is told |
| `registry` | all tasks there are, with what they need |
| `queue` | enqueuing, cancelling, asking |
| `streams`, `script`, `lua/` | jobs in Redis: a stream for each task and priority |
| `worker` | wires the parts together and runs until told to stop |
| `relay` | from Postgres to Redis: what is due |
| `scheduler`, `ticks` | what is to be done when |
| `fetcher` | from Redis: takes what may run now, and takes over from the dead |
| `runner`, `run` | the runs of one worker; one run |
| `settling` | what has ended is written |
| `heartbeat`, `monitor` | this worker lives; what is paused, how many jobs there are |
| `metrics`, `metrics_port` | what is counted, and where Prometheus fetches it |
| `commands`, `tables` | what an operator asks and says (`python -m jobs COMMAND`) |
| `notices` | the tasks: tell a user's notifiers that something waits |
| `notifiers` | webhook, e-mail, Web Push, APNs, FCM |
| `quiet` | quiet hours |
| `mail_tasks` | the tasks that send mail: verification, new devices, digests |
| `mail` | mails, from their templates to the mail server |
| `batches` | work that is done in small batches |
| `forget` | the tasks: forget what nobody asks for any more |
| `orphans` | the tasks: remove files that nothing refers to any more |
| `retention` | the task: messages that have lived long enough go |
| `analytics` | the tasks that bring figures by day up to date |

In Postgres a job is a row until it has ended (`store.jobs`). In Redis it is an entry of a stream until its end has been
written. Whatever happens to Redis, the row is handed in once more; whatever happens to a worker, the entry is taken
over: so each job runs at least once, and what it does must bear to be done twice.
"""
