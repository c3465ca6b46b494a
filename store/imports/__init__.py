"""Moving in: what `python -m store import` does with the database of the service before this one (decision 44).

| module | about |
|---|---|
| `source` | that database, which is only read |
| `target` | this service's database, and what an import remembers there between its runs |
| `steps` | the steps of a run, in their order |
| `reasons` | why rows are not taken, or not as they were |
| `rules` | what the rules of this service make of a user and of a title |
| `report` | what is here, what is not, and why |
"""
