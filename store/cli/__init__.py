"""Commands of `python -m store`, other than `migrate`.

| module | about |
|---|---|
| `archive` | `archive list` and `archive read`: prints archives as lines of JSON |
| `import_old` | `import`: takes over the database of the service before this one |
| `import_rules` | what becomes of its users and titles by the rules of this service |
| `import_progress` | the bars of an import |
| `invitations` | `invitations add`, `list` and `revoke`: codes with which users register |
| `restored` | `restored`: begins a new history after an operator has restored a backup |
"""
