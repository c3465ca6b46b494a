"""The output of `make run`, with its own Postgres and Redis, and all processes of the Procfile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from embedded.ports import free_port
from tests.memory import in_memory
from tests.waiting import wait_until_blocking

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
START_EVENTS = ("redis_connected", "node_ready", "listening", "working", "caught_up")
PATIENCE_S = 90.0


class Run:
    """`python -m embedded.run` on a terminal.

    :ivar shown: its output so far, without colours.
    """

    def __init__(self, var: Path) -> None:
        self._ours, theirs = os.openpty()
        names = ("LOG_FORMAT", "NO_COLOR", "DATABASE_URL", "REDIS_URL", "OBJECT_STORE_URL")
        kept = {name: value for name, value in os.environ.items() if name not in names}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedded.run", "--var", str(var)],
            cwd=ROOT,
            env={**kept, "PORT": str(free_port()), "SOCKET_PORT": str(free_port())},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.raw = ""
        self._reader = Thread(target=self._read)
        self._reader.start()

    @property
    def shown(self) -> str:
        return COLOUR.sub("", self.raw).replace("\r\n", "\n")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(60)
        self._reader.join(60)
        return status

    def _read(self) -> None:
        try:
            while chunk := os.read(self._ours, 65536):
                self.raw += chunk.decode()
        except OSError:  # all processes have closed it
            pass
        os.close(self._ours)


@contextmanager
def started(var: Path) -> Iterator[Run]:
    """It runs, and has shown its banner."""
    run = Run(var)
    try:
        wait_until_blocking(lambda: "Ctrl-C stops everything" in run.shown, lambda: run.shown, timeout_s=PATIENCE_S)
        yield run
    finally:
        assert run.stop() == 0, run.shown


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as folder:
        yield folder / "var"


def test_a_start_logs_for_people_warns_of_nothing_and_ends_with_commands_that_work_as_they_stand(
    var: Path, tmp_path: Path
) -> None:
    with started(var) as run:
        commands = re.findall(r"^  (.*python -m (?:client register|jobs status).*)$", run.shown, re.MULTILINE)
        assert len(commands) == 3
        for command in commands:
            ended = subprocess.run(
                command.replace(".venv/bin/python", f"'{sys.executable}'"),
                shell=True,
                cwd=ROOT,
                env={**os.environ, "ALO_PASSWORD": "a long enough password", "XDG_CONFIG_HOME": str(tmp_path)},
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 0, (command, ended.stderr)
    before, _, after = run.shown.partition("\nHTTP ")
    for event in START_EVENTS:
        assert re.search(rf"\[info +\] {event} ", before), event
        assert not re.search(rf"\[info +\] {event} ", after), event
    assert not re.search(r"\[(warning|error|critical) +\]", run.shown), run.shown
    assert '{"' not in run.shown
    assert "\x1b[" in run.raw


def test_the_second_start_warns_of_nothing_either(var: Path) -> None:
    for _ in range(2):
        with started(var) as run:
            pass
        assert not re.search(r"\[(warning|error|critical) +\]", run.shown), run.shown
