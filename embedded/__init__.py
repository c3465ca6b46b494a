"""Postgres and Redis as child processes, and the runner of the Procfile.

For development, tests and benchmarks; a deployment brings its own services and never imports this.

| module | about |
|---|---|
| `run` | `make run`: services, migrations, and all processes of the Procfile |
| `procfile` | reads a Procfile and runs its processes |
| `scaling` | how many processes of a kind run, and on which ports |
| `services` | both services for tests, the demo and benchmarks |
| `service` | what both have in common: start, stop, pause, kill |
| `postgres`, `redis` | each service: its command, settings and readiness |
| `standby` | a hot standby of an embedded Postgres |
| `programs` | finds the programs, and copies them for a user that cannot reach them |
| `process` | child processes, and those that a killed parent left behind |
| `private` | files that only their owner can read |
| `ports` | free TCP ports |
| `account` | the user under which the services run, never root |
| `requirements` | installs the locked requirements, and renews the locks |
| `web_packages` | installs the npm packages of the web client |
| `errors` | `EmbeddedError`, whose text says what to do |
"""
