"""The product's tasks, one module for each subject.

| module | about |
|---|---|
| `registry` | all tasks, with what each needs and how its jobs run |
| `debounce` | a loop: messages that were not delivered or read in time become jobs `offline_notice` |
| `notices` | `offline_notice`, `notify`: tell a user's notifiers that messages wait, or withdraw a notice |
| `notice_traces` | spans of these jobs, in the trace of the message that they tell of |
| `pauses` | decides when a notifier may be told again |
| `quiet` | how long a user's quiet hours last |
| `mail` | `verify_email`, `new_device`, `digest`, `password_reset` and others: send mail |
| `retention` | `retention`: delete messages whose lifetime is over |
| `account_deletions` | `delete_accounts`: delete accounts whose time has come |
| `exports` | `export`, `old_exports`: write the data of accounts into the object store, and delete it again |
| `forget` | `forget`, `expired_tokens`: delete old keys of sends, changes, dead jobs and tokens |
| `orphans` | `orphaned_attachments`, `orphaned_objects`, `abandoned_multiparts`: delete files that nothing refers to |
| `analytics` | `analytics`, `recount`: figures by day |
| `batches` | runs a task in small batches, with pauses |
"""
