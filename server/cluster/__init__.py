"""This process among the others, so that no device misses a committed change.

| module | about |
|---|---|
| `node` | a node: its lease, its inbox, and its users in the directory |
| `writer` | a process that commits changes and has no connections (`web`): its lease |
| `catch_up` | pushes of the changes that this node may have missed, read from Postgres |
| `unknown_outcomes` | writes with a lost answer: made certain, then caught up with on every node |
| `cursor_advance` | the cursors of connected devices, moved forward once all before them was pushed |
| `missed_pushes` | the check before that: pushes that are lacking without a known cause |
| `presence` | which users are online, for the connections that watch them |
| `questions` | questions of operators to this node |
"""
