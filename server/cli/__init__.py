"""The commands of operators (`python -m server ops COMMAND`).

| module | about |
|---|---|
| `parser` | the command line: each command, its arguments and its help |
| `run` | runs one command, and prints its rows |
| `services`, `operators` | what a command works with; the operator, as the audit log names the actor |
| `messages` | `message`: what became of a message |
| `verdicts`, `notice_verdicts` | why a message or a notice has not arrived, from facts alone |
| `users`, `user_actions` | `user NAME`; `user ACTION NAME` and `sessions end` |
| `found_users` | the user whom an operator names |
| `nodes` | `node list`, `show` and `drain` |
| `audit` | `audit`: security events |
| `doctor`, `checks` | `doctor`, and what it looks at |
| `show_config` | `config`: the configuration with its sources |
| `shown` | times and ids, as rows have them |
"""
