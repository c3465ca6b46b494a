"""The process that listens on a port of this machine, as Linux knows it (`proc(5)`), and what it does now."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")

_LISTENS: Final = "0A"
_STATES: Final = {
    "T": "is stopped by a signal",
    "t": "is stopped by a debugger",
    "D": "waits for a disk, and no signal ends that",
    "R": "uses the processor",
    "S": "waits for something",
}


class ListeningProcess(NamedTuple):
    """
    :ivar state: what it does, as the end of a sentence.
    :ivar is_stopped: it does nothing until SIGCONT.
    """

    pid: int
    state: str
    is_stopped: bool


def listener(port: int) -> ListeningProcess | None:
    """None if it is not to be seen: the system is not Linux, or the process is another user's."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in PROC.glob("[0-9]*"):
        # A process may end meanwhile; the files of other users' are not for us to read.
        with suppress(OSError):
            if any(os.readlink(file) in sockets for file in (folder / "fd").iterdir()):
                letter = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                state = _STATES.get(letter, f"has the state {letter}")
                return ListeningProcess(int(folder.name), state, letter in "Tt")
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found
