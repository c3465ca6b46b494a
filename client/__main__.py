"""The command line: `python -m client --help`, which also lists the variables of the environment.

A login is kept in `$XDG_CONFIG_HOME/alo-shield/SERVER/NAME.json`, with mode 600, and shown to that server alone.

Messages are encrypted end to end, with keys in a file beside the login (`client.unlock`), unless the library for that
is missing: then each chat says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio

from client.cli.console import CommandFailure
from client.cli.failures import report
from client.cli.parser import make_parser
from client.errors import ClientFailure
from protocol.errors import ProtocolError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0; 1 if it went wrong; 130 after Ctrl-C.

    :raises SystemExit: with status 2 if the command line is not understood.
    """
    parsed = make_parser().parse_args(arguments)
    try:
        trio.run(parsed.run, parsed)
    except (ClientFailure, CommandFailure, ProtocolError, OSError, KeyboardInterrupt, BaseExceptionGroup) as error:
        return report(error, parsed.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
