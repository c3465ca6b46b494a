"""A user at a terminal: `python -m client` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from tests.processes import Cluster

PATIENCE_S = 60.0


class Terminal:
    """A user at a keyboard, by `python -m client`."""

    def __init__(self, cluster: Cluster, socket_url: str, home: Path) -> None:
        self._environment = {
            **os.environ,
            "ALO_HTTP_URL": cluster.http_url,
            "ALO_SOCKET_URL": socket_url,
            "ALO_PASSWORD": "a long enough password",
            "XDG_CONFIG_HOME": str(home),
        }

    async def run(self, *arguments: str, typed: str = "") -> list[str]:
        """Run a command to its end; its output lines."""
        with trio.fail_after(PATIENCE_S):
            result = await trio.run_process(
                [sys.executable, "-m", "client", *arguments],
                stdin=typed.encode(),
                capture_stdout=True,
                capture_stderr=True,
                env=self._environment,
                check=False,
            )
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode().splitlines()

    async def open(self, *arguments: str) -> Screen:
        """A command that goes on."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "client", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        return Screen(process)


class Screen:
    """A running command; leaving the block types Ctrl-D and waits for its end."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._shown = b""
        self._is_killed = False

    async def __aenter__(self) -> Screen:
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        if self._is_killed:
            return
        try:
            await self._process.stdin.aclose()
            with trio.fail_after(PATIENCE_S):
                assert await self._process.wait() == 0
        finally:
            if self._process.returncode is None:
                self._process.kill()

    async def kill(self) -> None:
        """SIGKILL: the user gets no goodbye."""
        self._is_killed = True
        self._process.kill()
        await self._process.wait()

    async def type(self, line: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def wait_line(self, end: str, *, timeout_s: float = PATIENCE_S) -> str:
        """Wait until a line ends like this; skip earlier lines."""
        return await self._wait_line(lambda line: line.endswith(end), repr(end), timeout_s)

    async def wait_text(self, text: str, *, timeout_s: float = PATIENCE_S) -> str:
        """Wait until a line has this text; returns the line, and skips earlier ones."""
        return await self._wait_line(lambda line: text in line, repr(text), timeout_s)

    async def _wait_line(self, fits: Callable[[str], bool], what: str, timeout_s: float) -> str:
        assert self._process.stdout is not None
        with trio.fail_after(timeout_s):
            while True:
                line, separator, rest = self._shown.partition(b"\n")
                if not separator:
                    chunk = await self._process.stdout.receive_some()
                    assert chunk, f"ended before it showed {what}"
                    self._shown += chunk
                    continue
                self._shown = rest
                if fits(line.decode()):
                    return line.decode()
