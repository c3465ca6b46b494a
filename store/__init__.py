"""The store: Postgres, Redis and the object store, as the processes use them. No other package talks to them.

Folders:

| folder | about |
|---|---|
| `postgres` | connections on Trio, the statements of the hot path, migrations |
| `redis` | one pipelined connection for all tasks, the directory of nodes and users, the nodes' streams |
| `objects` | files under keys, in a folder or an S3-compatible service; archives of messages |
| `batching` | group commit: items that queue during one commit go out with the next one |
| `sql` | queries by name, stored functions, migrations |
| `imports` | taking over the database of the service before this one |
| `cli` | `python -m store archive`, `import`, `invitations` and `restored` |

Query modules, a function for each query of the `.sql` file of the same name:

| module | about |
|---|---|
| `accounts`, `devices`, `tokens` | users; their devices; the tokens of devices |
| `device_uses` | when devices were used last |
| `keys`, `key_claims` | identities and keys of devices, for those who encrypt for them; claims of one-time keys |
| `invitations` | codes with which users register, where the operator wants that |
| `account_deletions`, `password_resets` | accounts that their users delete, step by step; another password by mail |
| `exports`, `exported` | exports of accounts; the data in them |
| `profiles`, `contacts` | what users show of themselves; contacts and blocking |
| `security_events` | the audit log of accounts |
| `suspensions` | users whom operators suspend |
| `inspected_users`, `inspected_messages` | what operators see of users, and of messages |
| `database_checks` | what the command `doctor` asks Postgres about itself |
| `own_settings`, `emails`, `quiet_hours` | settings for the user alone; e-mail addresses; hours without notices |
| `conversations`, `participants` | conversations; changes to a group |
| `participant_lists` | lists of participants, kept in memory |
| `list_pages`, `history_pages` | first pages with their versions, and what a page that is kept lacks |
| `envelopes`, `group_states` | bytes that a message has for each of some devices; the state of a group's cryptography |
| `undecryptable` | messages that devices cannot decrypt, and the envelopes by which they heal |
| `messages`, `revisions`, `marks` | sending and history; edits and deletions; marks of what was delivered and read |
| `sync` | changes for a user since a cursor |
| `retention`, `orphans` | messages whose time has come; attachments and objects that nothing refers to |
| `attachments` | files that clients upload: declarations, quotas, who may read them |
| `outbox`, `notifiers` | users who may need a notice; notifiers, and the notices that they took |
| `jobs`, `schedules` | jobs until they end; when a schedule fires next |
| `last_seen`, `analytics`, `latencies` | when users were online; figures by day; a histogram of delivery times |

Modules without queries:

| module | about |
|---|---|
| `errors` | every error that the store raises |
| `distribution` | measured values in buckets |
| `listed_devices` | devices that are known to be of a version of a device set |
| `clock` | the time by Postgres, the same for all processes |
| `readers` | a read for the owner of a token, in one round trip |
| `transfers` | uploads and downloads: rows of attachments and the object store, brought together |
| `replicas` | hot standbys, for pages of history and exports |
| `unknown_sizes` | sizes of files that an import did not know, asked of the object store |
| `rows` | rows of queries as parts of frames |
| `avatars` | avatars of users and groups, as frames have them |
| `page_cursor` | cursors of lists and of history |
"""
