"""Work that may wait: the process `worker`.

| module | about |
|---|---|
| `worker` | wires the parts together and runs until told to stop |
| `queue` | one Redis stream with a consumer group: hand in, take, finish, take over from the dead |
| `relay` | from the outbox in Postgres to the queue |
| `offline_notice` | the task: tell a user's notifier that something waits |
| `notifier` | the webhook |
| `retention` | the task: messages that have lived long enough go |
"""
