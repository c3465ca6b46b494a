"""The processes of a Procfile, run by honcho until one of them ends or we are told to stop.

Each process is given `READY_LINE`, and writes it as a line by itself once it serves and has logged all that it logs at
a start. That line is not shown.
"""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import honcho.manager  # type: ignore[import-untyped]
from honcho.environ import parse_procfile  # type: ignore[import-untyped]
from honcho.printer import Message, Printer  # type: ignore[import-untyped]
from honcho.process import Popen, Process  # type: ignore[import-untyped]

from embedded import process
from embedded.errors import EmbeddedError

RELEASE = "release"

# How long after the first exit, or the signal to stop, honcho kills what is left (its own value is 5). Our
# processes may take 25 s to say goodbye to their clients.
KILL_WAIT_S = 30
_RELEASE_STOP_S = 10.0
_SHELL_OPERATORS = re.compile(r"[;&|()]")
# What a process that ended in good order after SIGTERM reports: by itself, by the signal, through a shell.
_STOPPED_CLEANLY = {0, -signal.SIGTERM, 128 + signal.SIGTERM}


class Terminal:
    """Standard output that signal handlers may write to, and that may go away.

    A closed terminal or a `tee` that Ctrl-C ended must not keep the processes from being stopped in order.
    """

    def write(self, text: str) -> None:
        data = text.encode()
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            return

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return os.isatty(1)


def read_procfile(path: Path) -> dict[str, str]:
    """The lines as {name: command}; raises EmbeddedError if there is no such file."""
    try:
        return dict(parse_procfile(path.read_text()).processes)
    except FileNotFoundError as error:
        raise EmbeddedError(f"No {path} here: run this in the folder of the checkout.") from error


def run_release(command: str, environment: Mapping[str, str]) -> None:
    """Run the release line to its end; raises EmbeddedError if it fails.

    An exception that comes meanwhile (Ctrl-C) ends it first.
    """
    with subprocess.Popen(command, shell=True, env=environment, start_new_session=True) as release:  # noqa: S602
        try:
            status = release.wait()
        except BaseException:
            os.killpg(release.pid, signal.SIGTERM)
            if not process.wait_until(lambda: release.poll() is not None, _RELEASE_STOP_S):
                os.killpg(release.pid, signal.SIGKILL)
            raise
    if status != 0:
        raise EmbeddedError(f"The release step `{command}` failed with status {status}: see its output above.")


def run_processes(commands: Mapping[str, str], environment: Mapping[str, str], *, banner: str) -> int:
    """Run the commands until one ends or SIGINT or SIGTERM comes, then stop all and return an exit status.

    The status is 0 if we were told to stop and all of them drained. `banner` is printed when all are ready, after all
    that they had to say until then.
    """
    honcho.manager.KILL_WAIT = KILL_WAIT_S
    ready_line = secrets.token_hex()
    manager = _Manager(_Printer(ready_line, set(commands), banner))
    for name, command in commands.items():
        manager.add_process(name, _without_shell(command), env={**environment, "READY_LINE": ready_line})
    manager.loop()
    if not manager.stop_asked:
        return manager.returncode or 1  # none of them may end by itself
    return 0 if manager.statuses() <= _STOPPED_CLEANLY else 1


def _without_shell(command: str) -> str:
    """The command so that the shell becomes it, where it is only one: else signals and statuses are the shell's."""
    return command if _SHELL_OPERATORS.search(command) else f"exec env {command}"


class _Process(Process):  # type: ignore[misc]
    """A process that doesn't survive a runner that is killed: it would keep the ports."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        process.die_with(os.getppid(), signal.SIGKILL)()
        self._child_ctor = partial(Popen, preexec_fn=process.die_with(os.getpid(), signal.SIGTERM))
        super().run(events, ignore_signals)


class _Printer(Printer):  # type: ignore[misc]
    """honcho's printer that shows the banner in the place of the last process' ready line."""

    def __init__(self, ready_line: str, awaited: set[str], banner: str) -> None:
        super().__init__(Terminal())
        self._ready_line = ready_line.encode()
        self._awaited = awaited
        self._banner = banner

    def write(self, message: Message) -> None:
        """One line; those of one process come in the order in which it wrote them."""
        if not (isinstance(message.data, bytes) and message.data.strip() == self._ready_line):
            super().write(message)
            return
        self._awaited.discard(message.name)
        if not self._awaited:
            self.output.write(self._banner)


class _Manager(honcho.manager.Manager):  # type: ignore[misc]
    """honcho's manager that can be told to stop at any time, and then gives the processes a deadline.

    honcho's own fails on a signal before every process has told its id, and waits for ever for processes
    that ignore the signal.
    """

    def __init__(self, printer: _Printer) -> None:
        super().__init__(printer)
        self._process_ctor = _Process
        self._stopping = False
        self.stop_asked = False

    def terminate(self) -> None:
        """Ask all to end: now, or by the loop as soon as all have started."""
        self.stop_asked = self.stop_asked or not super()._any_stopped()
        self._stopping = True
        if self._all_started():
            super().terminate()

    def statuses(self) -> set[int]:
        """How the processes ended; a negative one is a signal."""
        return {state["returncode"] for state in self._processes.values()}

    def _any_stopped(self) -> bool:
        return self._stopping or super()._any_stopped()
