"""Work that may wait: the process `worker`, and the commands of operators (`python -m jobs`).

| module | about |
|---|---|
| `engine` | the job queue and the worker, for any task; knows nothing of the product |
| `tasks` | the product's tasks, and the registry that lists them |
| `notifiers` | tell a user that messages wait: webhook, e-mail, Web Push, APNs, FCM |
| `mail` | e-mails, from their templates to the mail server |
| `cli` | the commands of operators |

In Postgres, a job is a row until it has ended (`store.jobs`). In Redis, it is an entry of a stream until its ending is
written. If Redis is lost, a worker hands the row in again; if a worker dies, other workers take its entries over. So
each job runs at least once, and its handler must tolerate repetition.
"""
