"""`python -m tests.told_process`: print what this process was given. `--exit STATUS`: end. `--wait`: repeat a line."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from contextlib import suppress


def _open_files() -> list[int]:
    found = []
    for number in range(64):
        with suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found


def _end(status: str) -> None:
    atexit.register(sys.stdout.write, "goodbye\n")
    match status:
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "error":
            raise ValueError("as asked")
    sys.exit(int(status) if status.isdecimal() else status)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--exit"]:
        _end(sys.argv[2])
    if sys.argv[1:] == ["--wait"]:
        sys.stdout.write(sys.stdin.readline())
        sys.stdout.flush()
        signal.pause()
    given = {
        "is_forked": "server.http.process" in sys.modules,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "first_on_path": sys.path[0],
        "files": _open_files(),
        "session": os.getsid(0),
        "group": os.getpgid(0),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "name": __name__,
    }
    sys.stdout.write(json.dumps(given))
