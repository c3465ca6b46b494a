"""Processes of the product, forked from one that has imported it.

`python -m server socket` imports for a third of a second of CPU before it begins, and the tests start hundreds of such
processes: they would take a third of the CPU of all tests. So each process of pytest has a *template process*, which
imports the product and does nothing else. It forks for each `python -m MODULE` of the product or of the tests. The new
process has an id, an environment, signals, files and an end of its own, and is a child of the process of pytest, as any
other: tests kill it, wait for it and read its log as before. The file descriptors are those that were asked for; the
template has no others.

A process is started as usual where this would make a difference: before the template is ready, with other variables of
Python or of the loader (`PYTHONPATH`, `LD_PRELOAD`), at a terminal, in another folder, for another user, with
`COLD_START` in its environment, for the other programs (`python -m embedded.run`, and so the processes of its
Procfile), and on other systems than Linux.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

MODULES: Final = frozenset({"client", "jobs", "server", "store"})
"""The modules with imports that the template has, and all in `tests`."""

IMPORTED: Final = (
    "client.chat",
    "jobs.cli.commands",
    "jobs.tasks.registry",
    "server.cli.run",
    "server.gateway.serve",
    "server.http.process",
    "store.cli.archive",
    "store.cli.import_old",
    "store.cli.invitations",
    "store.cli.restored",
)

_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE_PARENT: Final = 0x00008000
_LIBC: Final = ctypes.PyDLL(None)
_MOST_BYTES: Final = 1 << 17
_OF_PYTHON: Final = ("PYTHON", "LD_")


class ProcessTemplate:
    """The template process, seen from the process of pytest. It ends with that."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._is_ready = False
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.process_template", str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> int | None:
        """The id of a new process; None while the template is not ready.

        :param arguments: the module and its arguments.
        :param files: its stdin, stdout and stderr.
        """
        with self._lock:
            if not self._is_ready:
                with suppress(BlockingIOError):
                    self._is_ready = self._socket.recv(16, socket.MSG_DONTWAIT) == b"ready"
            if not self._is_ready:
                return None
            wanted = json.dumps([list(arguments), dict(environment)]).encode("utf-8", "surrogateescape")
            if len(wanted) > _MOST_BYTES:
                return None
            socket.send_fds(self._socket, [wanted], files)
            return int(self._socket.recv(16))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@contextmanager
def forked_processes() -> Iterator[None]:
    """A block in which `subprocess.Popen`, and so Trio, starts processes of the product from a template. The template
    starts with the first of them."""
    if platform.system() != "Linux" or platform.machine() not in _CLONE:
        yield
        return
    templates: list[ProcessTemplate] = []
    lock = threading.Lock()
    start_afresh = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def start(popen: Any, arguments: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        close_fds, pass_fds, cwd, env, _, _, shell, *pipes, _, gid, gids, uid, umask, new_session, group = rest
        stdin, _, _, stdout, _, stderr = pipes
        environment = os.environ if env is None else env
        files = [given if given >= 0 else inherited for inherited, given in enumerate((stdin, stdout, stderr))]
        is_plain = (executable, preexec_fn, shell, gid, gids, uid) == (None, None, False, None, None, None)
        is_plain &= bool(close_fds) and not pass_fds and umask < 0 and not new_session and group < 0
        is_here = Path(cwd or ".").resolve() == ROOT
        if is_plain and is_here and _is_of_the_product(arguments) and _fits(environment, files):
            with lock:
                if not templates:
                    templates.append(ProcessTemplate())
            if (pid := templates[0].fork(arguments[2:], environment, files)) is not None:
                popen.pid, popen._child_created = pid, True
                popen._close_pipe_fds(*pipes)
                return
        start_afresh(popen, arguments, executable, preexec_fn, *rest)

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = start_afresh  # type: ignore[attr-defined]
        for template in templates:
            template.close()


def _is_of_the_product(arguments: Any) -> bool:
    if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
        return False
    if arguments[:2] != [sys.executable, "-m"] or len(arguments) < 3:
        return False
    module = arguments[2]
    return module in MODULES or (module.startswith("tests.") and module != __name__)


def _fits(environment: Mapping[str, str], files: Sequence[int]) -> bool:
    """Whether the template has the variables that an interpreter reads at its start, and no file is a terminal."""
    if "COLD_START" in environment or any(map(os.isatty, files)):
        return False
    return _of_python(environment) == _of_python(os.environ)


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_OF_PYTHON)}


def _clone() -> int:
    """Fork; the new process is a child of this one's parent. Zero in the new process.

    The call keeps the lock of the interpreter (`PyDLL`), of which the new process has the one thread.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_LIBC.syscall(_CLONE[platform.machine()], _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("the template cannot fork")
    return pid


def _wait_order(connection: socket.socket) -> list[str]:
    """Fork for each order. This returns in each new process, with the module and its arguments."""
    gc.collect()
    gc.freeze()  # a collection in a new process would copy all pages
    connection.send(b"ready")
    while True:
        wanted, files, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
        if not wanted:
            sys.exit(0)  # the process of pytest has ended
        if (pid := _clone()) != 0:
            for file in files:
                os.close(file)
            connection.send(str(pid).encode())
            continue
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        arguments, environment = json.loads(wanted.decode("utf-8", "surrogateescape"))
        os.environ.clear()
        os.environ.update(environment)
        return list(arguments)


if __name__ == "__main__":
    for _each in IMPORTED:
        __import__(_each)
    sys.argv = _wait_order(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
