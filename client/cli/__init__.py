"""The commands of `python -m client`.

| module | about |
|---|---|
| `parser` | the grammar of the command line |
| `accounts`, `talks` | the commands about a user's account; those about conversations |
| `logins` | the login that a command uses, with its keys |
| `environment`, `passwords` | what the user has set; what the user is asked for |
| `console`, `failures` | lines for the user; a failure in one line |
"""
