"""Parts that all programs of this package share: a folder, services, lines to print, and the exit status."""

from __future__ import annotations

import fcntl
import json
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from bench.databases import Shared
from bench.processes import ServerError
from embedded.errors import EmbeddedError
from embedded.services import services

FOLDER: Final = Path(__file__).parent.parent / "var" / "bench"

_OTHER_FILES: Final = 100
"""Files that this process and a gateway hold open beside their connections."""


def run_alone(program: Callable[[], bool]) -> NoReturn:
    """Run the program, which returns whether all its runs are valid, and exit with 1 if not."""
    try:
        with alone():
            is_valid = program()
    except (ServerError, EmbeddedError) as error:
        sys.exit(str(error))
    sys.exit(0 if is_valid else 1)


@contextmanager
def alone() -> Iterator[None]:
    """Let no other benchmark run during the block: each would distort the other's figures.

    SIGTERM ends the block in good order; without that, it would leave servers behind.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another benchmark is running")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        yield


@contextmanager
def shared_services() -> Iterator[Shared]:
    """Postgres, which waits for the disk at each commit, and Redis."""
    with services(FOLDER / "services", durable=True) as running:
        postgres, redis = running.postgres, running.redis
        yield Shared(postgres.url, postgres.pid, postgres.log, redis.url, redis.pid)


def allow_files(connections: int) -> None:
    """Raise the limit of open files, which gateways inherit, for this number of connections; exits if that is not
    possible."""
    needed = connections + _OTHER_FILES
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        sys.exit(f"{needed} open files are needed, {most} are allowed: raise the hard limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if most == resource.RLIM_INFINITY else most, most))


def say(text: str) -> None:
    """Print a text for the user to standard error."""
    print(text, file=sys.stderr, flush=True)


def report(
    lines: Iterable[dict[str, Any]],
    summarize: Callable[[Sequence[dict[str, Any]]], Iterable[dict[str, Any]]],
) -> bool:
    """Print each line of a benchmark as it comes, then the lines of the summary; return whether every run was valid."""
    runs = []
    for line in lines:
        runs.append(line)
        print_line(line)
    for line in summarize(runs):
        print_line(line)
    return all(run["valid"] for run in runs)


def print_line(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)
