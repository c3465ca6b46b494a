"""The commands of operators (`python -m jobs COMMAND`).

| module | about |
|---|---|
| `commands` | each command: reads or changes jobs, schedules and pauses, and returns rows |
"""
