"""One target under atheris, in this process: `python -m tests.fuzz.engine TARGET [OPTION ...] [FILE | FOLDER ...]`.

The options are libFuzzer's. Ends with status 77 and a file `crash-…` if an input breaks a promise.
"""

from __future__ import annotations

import random
import shlex
import sys

import atheris

with atheris.instrument_imports(include=["protocol", "server"]):
    from tests.fuzz.targets import TARGETS, Target


def fuzz(target: Target, argv: list[str]) -> None:
    """Run libFuzzer; it exits."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        made = target.mutate(data, max_size, random.Random(seed), atheris.Mutate)
        return made[:max_size]

    with target.open() as check:
        atheris.Setup(argv, check, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    # For a merge, libFuzzer starts itself again through a shell.
    again = f"{shlex.quote(sys.executable)} -m tests.fuzz.engine {sys.argv[1]}"
    fuzz(TARGETS[sys.argv[1]], [again, *sys.argv[2:]])
