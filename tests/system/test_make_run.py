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

import httpx
import pytest

from embedded.ports import free_port, is_free
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

    def __init__(self, var: Path, **settings: str) -> None:
        self._ours, theirs = os.openpty()
        names = ("LOG_FORMAT", "NO_COLOR", "DATABASE_URL", "REDIS_URL", "OBJECT_STORE_URL")
        kept = {name: value for name, value in os.environ.items() if name not in names}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedded.run", "--var", str(var)],
            cwd=ROOT,
            env={**kept, "PORT": str(free_port()), "SOCKET_PORT": str(free_port()), **settings},
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
def started(var: Path, **settings: str) -> Iterator[Run]:
    """It runs, and has shown its banner."""
    run = Run(var, **settings)
    try:
        wait_until_blocking(lambda: "Ctrl-C stops everything" in run.shown, lambda: run.shown, timeout_s=PATIENCE_S)
        yield run
    finally:
        assert run.stop() == 0, run.shown


@pytest.fixture
def var(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as folder:
        yield folder / "var"


def test_first_and_second_start_log_for_people_warn_of_nothing_and_end_with_commands_that_work_as_they_stand(
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
    assert '{"' not in run.shown
    assert "\x1b[" in run.raw
    with started(var) as again:
        pass
    for each in (run, again):
        assert not re.search(r"\[(warning|error|critical) +\]", each.shown), each.shown


def test_two_processes_of_a_kind_serve_on_ports_of_their_own_that_the_banner_names(var: Path) -> None:
    first = free_port()
    while not all(is_free(first + step) for step in (0, 1, 2, 10, 11)):
        first = free_port()
    with started(var, SCALE="web=2,socket=2", METRICS_PORT=str(first)) as run:
        https, sockets = (re.findall(rf"^{name} +(.*)$", run.shown, re.MULTILINE) for name in ("HTTP", "WebSocket"))
        urls = [url.replace("ws:", "http:") for line in (*https, *sockets) for url in line.split()]
        pages = re.findall(r"^Metrics +(http:\S+)/metrics", run.shown, re.MULTILINE)
        assert len({*urls, *pages}) == 9
        for url in (*urls, *pages):
            assert httpx.get(f"{url}/readyz").status_code == 200, url
        nodes = set(re.findall(r"\bnode=(\w+)", run.shown))
        assert len(nodes) == 2
    for name in ("web.1", "web.2", "socket.1", "socket.2", "worker"):
        assert re.search(rf"\b{re.escape(name)} +\| ", run.shown), name
    assert not re.search(r"\[(warning|error|critical) +\]", run.shown), run.shown
