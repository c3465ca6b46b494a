"""Servers as child processes: start them, wait for them, stop them; by process id and never by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
"""Our server drains for up to 25 s."""

_POLL_S: Final = 0.02


class ServerError(Exception):
    """A server did not start."""


@contextmanager
def running(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Run the command while the block runs; the block begins when it is ready. Yields the process id.

    `environment` is added to this process's environment; the command's output goes to the end of `log`.

    :raises ServerError: if the command ends, or is not ready in time.
    """
    process = _start(command, folder, environment, log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if process.poll() is not None:
                raise ServerError(f"{' '.join(command)} ended with status {process.returncode}: see {log}")
            if time.monotonic() > deadline:
                raise ServerError(f"{' '.join(command)} was not ready in {START_TIMEOUT_S:g} s: see {log}")
            time.sleep(_POLL_S)
        yield process.pid
    finally:
        _stop(process)


def run(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path) -> None:
    """Run the command to its end.

    :raises ServerError: if it fails.
    """
    process = _start(command, folder, environment, log)
    try:
        status = process.wait()
    finally:
        _stop(process)
    if status != 0:
        raise ServerError(f"{' '.join(command)} ended with status {status}: see {log}")


def _start(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether a server accepts connections on the port."""
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
