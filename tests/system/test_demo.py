"""`make demo` succeeds."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.long
def test_demo_survives_the_kill() -> None:
    """Three clients, a node killed in the middle: all sends are acked, and each client ends with all messages in
    order."""
    result = subprocess.run([sys.executable, "-m", "demo"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    transcript, _, _ = result.stdout.partition("-- Alice and Bob")
    said, _, after = transcript.partition("** node 1 is killed (SIGKILL) **")
    assert said.count("(acked: seq ") == 5
    assert after.count("(acked: seq ") == 6
    assert result.stdout.count("all of them, once, in order") == 4
    assert "alice holds seq 1 2 3 4 5 6:" in result.stdout
