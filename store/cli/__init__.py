"""Commands of `python -m store`, other than `migrate`.

| module | about |
|---|---|
| `archive` | `archive list` and `archive read`: prints archives as lines of JSON |
| `invitations` | `invitations add`, `list` and `revoke`: codes with which users register |
| `restored` | `restored`: begins a new history after an operator has restored a backup |
"""
