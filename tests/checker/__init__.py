"""Runs a random interleaving of users, devices and faults from a seed, and checks the history that it leaves.

| file | contents |
|---|---|
| `plan.py` | a seed becomes a list of steps |
| `checker_world.py` | the processes, the users and their devices; it takes the steps |
| `faulty_nodes.py` | the nodes, and the faults of a plan |
| `devices.py` | a device: the reference client, which records everything that it receives |
| `encrypting.py` | devices that encrypt for the devices of a conversation, and devices that come and go meanwhile |
| `views.py` | the contents of a device, as data; and the fetch of a fresh device |
| `history.py` | the events of a run, as data |
| `checks.py` | the checks of a history: pure functions, so that tests can give them doctored histories |
| `run.py` | one run: start, act, calm down, compare |

`python -m tests.checker --seed N --seconds S` takes the steps of a seed again. The processes may time and order their
work in another way: a fault that depends on timing may take several runs.
"""
