"""The process behind a port."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from embedded.ports import free_port
from server.cli.checks.listeners import listener

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="proc(5) is of Linux")


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_process_that_listens_is_found(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listening.listen()
        process = listener(listening.getsockname()[1])
    assert process is not None
    assert (process.pid, process.state, process.is_stopped) == (os.getpid(), "uses the processor", False)


def test_a_port_on_which_nothing_listens_has_no_process() -> None:
    assert listener(free_port()) is None
