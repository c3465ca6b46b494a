"""How a process ends: with a sentence where an operator can mend it, with a traceback where a programmer has to. And
what the garbage collector has to look at while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
from runtime.process import run_process
from store.errors import DatabaseError, StoreError, Unavailable

async def main(_):
    raise {error}

run_process("test", main, StoreError)
"""


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        ('Unavailable("Postgres", "host:5432", "no answer")', False),
        ('DatabaseError("no such column", "42703")', True),
        ('ExceptionGroup("tasks", [Unavailable("Postgres", "host:5432", "no answer")])', False),
        ('ExceptionGroup("tasks", [DatabaseError("no such column", "42703")])', True),
    ],
)
def test_a_fault_in_sql_ends_a_process_with_a_traceback(error: str, has_traceback: bool) -> None:
    command = [sys.executable, "-c", PROGRAM.format(error=error)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert ("Traceback" in result.stderr) is has_traceback, result.stderr
    assert ("no such column" if has_traceback else "no answer") in result.stderr


COLLECTED = """
import gc
import server.gateway.process
from runtime.process import run_process

async def main(_):
    print(len(gc.get_objects()))

run_process("test", main)
"""


def test_a_full_collection_does_not_look_at_the_modules_of_a_process() -> None:
    """Else a client that connects and leaves all the time makes all others wait for 60 ms, again and again."""
    command = [sys.executable, "-c", COLLECTED]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 5000


def test_the_start_names_misspelled_variables_in_one_line() -> None:
    program = 'from runtime.process import run_process\nasync def main(_): pass\nrun_process("test", main)'
    environment = {"PATH": os.environ["PATH"], "RETENTION_DAY": "30", "APNS_CERT": "x"}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    [line] = [json.loads(line) for line in result.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("variables_not_read", "warning")
    assert line["variables"] == [
        "APNS_CERT is not read: docs/configuration.md lists the variables",
        "RETENTION_DAY is not read: do you mean RETENTION_DAYS?",
    ]
