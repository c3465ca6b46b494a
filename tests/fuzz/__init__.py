"""Coverage-guided fuzzing of all code that reads bytes of a peer: `make fuzz`; docs/fuzzing.md says more.

| module | about |
|---|---|
| `decoder`, `receiver`, `states`, `proxies`, `connection` | the targets: `check(data)` fails if a promise is broken |
| `targets` | the table of them |
| `mutators` | changes that keep an input so well-formed that it gets past the first check |
| `corpus` | the inputs in the repository: how they are read and made fewer |
| `engine` | one target under atheris, in its own process |
| `replay` | one input, without atheris |
"""
