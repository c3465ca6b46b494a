"""Any interleaving of what users, devices and faults may do, from a seed; and what must be true of it in the end.

| file | what is in it |
|---|---|
| `plan.py` | a seed becomes a list of steps |
| `world.py` | the processes, the people and their devices; the steps are taken there |
| `devices.py` | a device: the reference client, with everything that it got written down |
| `views.py` | what a device holds, as data; and what a fresh device fetches |
| `history.py` | what has happened, as data |
| `checks.py` | what must be true of a history: pure, so doctored histories can be given to it |
| `run.py` | all of it, once: start, act, calm down, compare |

`python -m tests.checker --seed N --seconds S` takes the steps of a seed again. What the processes make of them, and
when, may differ: a fault that depends on it may take several runs.
"""
