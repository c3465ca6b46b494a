"""Runs the processes of a Procfile with honcho, until one of them ends or the runner is told to stop.

Each process gets `INSTANCE` and `READY_LINE` in its environment, and writes the latter as a separate line once it
serves and its start is logged. The runner does not show that line.
"""

import os
import re
import secrets
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import honcho.manager  # type: ignore[import-untyped]
from honcho.environ import parse_procfile  # type: ignore[import-untyped]
from honcho.printer import Message, Printer  # type: ignore[import-untyped]
from honcho.process import Popen, Process  # type: ignore[import-untyped]

from embedded import process
from embedded.errors import EmbeddedError
from embedded.scaling import Instance

RELEASE = "release"

# Seconds from the first exit, or the signal to stop, until honcho kills the other processes (its default is 5). Our
# processes may take 25 s to drain.
KILL_WAIT_S = 30
_RELEASE_STOP_S = 10.0
_SHELL_OPERATORS = re.compile(r"[;&|()]")
# Statuses of a process that ended in order after SIGTERM: by itself, by the signal, or through a shell.
_STOPPED_CLEANLY = {0, -signal.SIGTERM, 128 + signal.SIGTERM}


class Terminal:
    """Standard output for signal handlers. Errors do not matter: the terminal may close at any time.

    The processes must be stopped in order even after the terminal has closed, or Ctrl-C has ended a `tee`.
    """

    def write(self, text: str) -> None:
        data = text.encode()
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            return

    def flush(self) -> None:
        """Do nothing: `write` does not buffer."""

    def isatty(self) -> bool:
        return os.isatty(1)


def read_procfile(path: Path) -> dict[str, str]:
    """The lines as {name: command}; raises EmbeddedError if the file does not exist."""
    try:
        return dict(parse_procfile(path.read_text()).processes)
    except FileNotFoundError as error:
        raise EmbeddedError(f"No {path} here: run this in the folder of the checkout.") from error


def run_release(command: str, environment: Mapping[str, str]) -> None:
    """Run the release line to its end; raises EmbeddedError if it fails.

    An exception meanwhile, such as from Ctrl-C, first ends the command.
    """
    with subprocess.Popen(command, shell=True, env=environment, start_new_session=True) as release:  # noqa: S602
        try:
            status = release.wait()
        except BaseException:
            # The command may have ended by itself at the same moment.
            with suppress(ProcessLookupError):
                os.killpg(release.pid, signal.SIGTERM)
                if not process.wait_until(lambda: release.poll() is not None, _RELEASE_STOP_S):
                    os.killpg(release.pid, signal.SIGKILL)
            raise
    if status != 0:
        raise EmbeddedError(f"The release step `{command}` failed with status {status}: see its output above.")


def run_processes(instances: Mapping[str, Instance], environment: Mapping[str, str], *, banner: str) -> int:
    """Run the processes until one ends or SIGINT or SIGTERM comes, then stop all and return an exit status.

    The status is 0 if the runner was told to stop and all processes drained. Once all are ready, the runner prints
    `banner`, after all lines that they wrote until then.
    """
    honcho.manager.KILL_WAIT = KILL_WAIT_S
    ready_line = secrets.token_hex()
    manager = _Manager(_Printer(ready_line, set(instances), banner))
    for name, instance in instances.items():
        own = {"READY_LINE": ready_line, "INSTANCE": str(instance.number)}
        manager.add_process(name, _without_shell(instance.command), env={**environment, **own})
    manager.loop()
    if not manager.stop_asked:
        return manager.returncode or 1  # a process that ends by itself is a failure
    return 0 if manager.statuses() <= _STOPPED_CLEANLY else 1


def _without_shell(command: str) -> str:
    """A single command with `exec`, so that it replaces the shell: otherwise signals and statuses would be the
    shell's."""
    return command if _SHELL_OPERATORS.search(command) else f"exec env {command}"


class _Process(Process):  # type: ignore[misc]
    """A process that ends when the runner is killed: otherwise it would keep the ports."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        process.die_with(os.getppid(), signal.SIGKILL)()
        self._child_ctor = partial(Popen, preexec_fn=process.die_with(os.getpid(), signal.SIGTERM))
        super().run(events, ignore_signals)


class _Printer(Printer):  # type: ignore[misc]
    """honcho's printer, which prints the banner in place of the last process's ready line."""

    def __init__(self, ready_line: str, awaited: set[str], banner: str) -> None:
        super().__init__(Terminal())
        self._ready_line = ready_line.encode()
        self._awaited = awaited
        self._banner = banner

    def write(self, message: Message) -> None:
        """Print one line. Lines of one process come in the order in which it wrote them."""
        if not (isinstance(message.data, bytes) and message.data.strip() == self._ready_line):
            super().write(message)
            return
        self._awaited.discard(message.name)
        if not self._awaited:
            self.output.write(self._banner)


class _Manager(honcho.manager.Manager):  # type: ignore[misc]
    """honcho's manager, which can be told to stop at any time, and then gives the processes a deadline.

    honcho's own manager fails on a signal before every process has told its id, and waits for ever for processes that
    ignore the signal.
    """

    def __init__(self, printer: _Printer) -> None:
        super().__init__(printer)
        self._process_ctor = _Process
        self._stopping = False
        self.stop_asked = False

    def terminate(self) -> None:
        """Ask all processes to end: now, or, if some have not started, in the loop once they have."""
        self.stop_asked = self.stop_asked or not super()._any_stopped()
        self._stopping = True
        if self._all_started():
            super().terminate()

    def statuses(self) -> set[int]:
        """The exit statuses of the processes; a negative status is a signal."""
        return {state["returncode"] for state in self._processes.values()}

    def _any_stopped(self) -> bool:
        return self._stopping or super()._any_stopped()
