"""TCP ports of this machine."""

import errno
import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which kernels take the source ports of outgoing connections (Linux from 32768, macOS from
# 49152). If a client keeps connecting to a port of that range while its server is down, it sooner or later connects to
# itself, and the server cannot bind the port again.
_CANDIDATES = range(10_000, 32_000)
_ATTEMPTS = 200
_CONNECT_TIMEOUT_S = 1.0


def free_port() -> int:
    """A port without a listener at this moment; another process may take it before the caller does.

    Raises OSError (EADDRINUSE) if many random ports are all taken.
    """
    for _ in range(_ATTEMPTS):
        port = random.choice(_CANDIDATES)  # noqa: S311 (not a secret)
        if is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, "no free port found")


def is_free(port: int) -> bool:
    """Whether the port has no listener on any address of this machine.

    Raises PermissionError for a port that this user may not open.
    """
    with socket.socket() as probe:
        # As servers do: a port with connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    # BSD kernels let a wildcard bind pass beside a listener on one address.
    return not answers(port)


def answers(port: int) -> bool:
    """Whether a process accepts connections to the port on the loopback address."""
    try:
        socket.create_connection((LOOPBACK, port), _CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True
