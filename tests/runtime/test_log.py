"""Logs are for people on a terminal, and for programs in a file or a pipe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import structlog, sys
from runtime.log import configure_logging
configure_logging("socket", "info", sys.argv[1])
from runtime.log_context import SERVED, RequestNames
log = structlog.get_logger("x")
log.debug("unseen")
log.info("listening", port=8001, names=["a", "b"])
log.warning("refused", error="first line\\nsecond line", host="h")
try:
    {}["missing"]
except KeyError:
    log.exception("failed")
SERVED.set(RequestNames("a-request", "a-trace"))
log.info("served")
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(*, is_terminal: bool, format: str = "", **environment: str) -> list[str]:
    """The lines that a process writes to its stderr."""
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE, format], stderr=theirs, cwd=Path(__file__).parents[2], env={**kept, **environment}
    ):
        os.close(theirs)
        data = b""
        try:
            while chunk := os.read(ours, 65536):
                data += chunk
        except OSError:  # all processes have closed the terminal
            pass
        os.close(ours)
    return data.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("format", ["", "json", "console"])
def test_lines_are_json_in_a_pipe_and_for_people_on_a_terminal_unless_told_otherwise(
    is_terminal: bool, format: str
) -> None:
    lines = run(is_terminal=is_terminal, format=format)
    if format == "json" or (not format and not is_terminal):
        found = [json.loads(line) for line in lines]
        assert [line["event"] for line in found] == ["listening", "refused", "failed", "served"]
        names = [(line.get("request_id"), line.get("trace_id")) for line in found]
        assert names == [(None, None)] * 3 + [("a-request", "a-trace")]
        assert {line["process"] for line in found} == {"socket"}
        assert all(re.fullmatch(r"[-0-9]{10}T[:.0-9]+Z", line["timestamp"]) for line in found)
        assert found[1]["error"] == "first line\nsecond line"
        assert "KeyError: 'missing'" in found[2]["exception"]
    else:
        assert COLOUR.search(lines[0])
        plain = [COLOUR.sub("", line) for line in lines]
        # A runner that collects the lines of several processes puts the time and the process before each.
        time, process = (r"\d\d:\d\d:\d\d ", " process=socket") if is_terminal else ("", "")
        listening = r"\[info +\] listening +" + re.escape("names=['a', 'b'] port=8001")
        refused = r"\[warning +\] refused +" + re.escape(r"error='first line\nsecond line' host=h")
        assert re.fullmatch(time + listening + process, plain[0])
        assert re.fullmatch(time + refused + process, plain[1])
        assert re.match(time + r"\[error +\] failed", plain[2])
        assert plain[-2] == "KeyError: 'missing'"
        assert "request_id=a-request trace_id=a-trace" in plain[-1]


def test_no_color_leaves_colours_out() -> None:
    assert not COLOUR.search("".join(run(is_terminal=True, NO_COLOR="1")))


def test_a_line_of_a_library_that_repeats_is_written_once_a_minute() -> None:
    """As of an exporter of traces whose collector is away."""
    code = (
        "import logging\nfrom runtime.log import configure_logging\nconfigure_logging('socket', 'info', 'json')\n"
        "for number in range(50):\n    logging.getLogger('exporter').warning('cannot reach %s', number)\n"
        "logging.getLogger('exporter').error('given up')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.stderr.splitlines() == ["WARNING:exporter:cannot reach 0", "ERROR:exporter:given up"]
