"""Batches of writes: the items that queue during one commit go out with the next one.

| module | about |
|---|---|
| `commits` | sizes and times of commits, and which one is stuck |
| `fair_queue` | a bounded queue in which sources take turns |
| `group_commit` | one queue, one commit at a time |
| `two_lanes` | a second lane for items whose rows another transaction has locked |
"""
