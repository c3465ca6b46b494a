"""Child processes in sessions of their own, and processes that a killed parent left behind."""

import ctypes
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from embedded.account import SystemAccount

LINUX = platform.system() == "Linux"

_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child of a fork in a threaded process must not take locks.
_LIBC = ctypes.PyDLL(None) if LINUX else None


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll the condition until it holds; False if it does not hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def spawn(
    command: Sequence[str],
    *,
    folder: Path,
    log: IO[bytes],
    account: SystemAccount | None,
    death_signal: signal.Signals,
) -> subprocess.Popen[bytes]:
    """Start the command in the folder, out of reach of the terminal's Ctrl-C.

    On Linux, the child gets `death_signal` when the *thread* that called this ends, for any reason.
    Raises OSError if the command cannot be run.
    """
    return subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=die_with(os.getpid(), death_signal),  # after the change of user, which clears it
        **_options(folder, log, account),
    )


def run(command: Sequence[str], *, folder: Path, log: IO[bytes], account: SystemAccount | None) -> int:
    """Run the command in the folder to its end and return its exit status."""
    return subprocess.run(command, check=False, **_options(folder, log, account)).returncode


def _options(folder: Path, log: IO[bytes], account: SystemAccount | None) -> dict[str, Any]:
    return {
        "cwd": folder,
        "env": _environment(),
        "stdin": subprocess.DEVNULL,
        "stdout": log,
        "stderr": log,
        "user": account.uid if account else None,
        "group": account.gid if account else None,
        "extra_groups": [] if account else None,
    }


def die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """A function for a child of `parent`: it arranges that the child gets the signal when the forking thread ends
    (Linux only)."""

    def call() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the setting took effect
            os._exit(1)

    return call


def running_in(folder: Path, program: str, pid: int | None) -> list[int]:
    """Processes of the program whose working directory is the folder.

    Linux tells the working directory of each process. Elsewhere this returns `pid` and its children, if they run the
    program.
    """
    if LINUX:
        return [int(entry.name) for entry in Path("/proc").iterdir() if _works_in(entry, folder, program)]
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    return [int(own) for own, parent, command in rows if str(pid) in (own, parent) and program in Path(command).name]


def here(folder: Path) -> str:
    """A path of the folder for a process whose working directory it is.

    That process's user may not be able to enter the folders above (a checkout below /root). On Linux, /proc/self/cwd
    works all the same. A plain "." does not, since Postgres and Redis make it absolute.
    """
    return "/proc/self/cwd" if LINUX and os.geteuid() == 0 else str(folder)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Signal the processes that still exist."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _works_in(entry: Path, folder: Path, program: str) -> bool:
    if not entry.name.isdecimal():
        return False
    try:
        return (entry / "comm").read_text().strip() == program and os.path.samefile(entry / "cwd", folder)
    except OSError:  # the process ended (a zombie has no folder either), or belongs to another user
        return False


def _environment() -> dict[str, str]:
    """This environment without the variables that configure Postgres (PGDATA, PGPORT, ...) or translate its log."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}
