"""The command line of programs that measure servers in turn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.contest import Traffic, usable


def parser_of(prog: str, purpose: str | None, servers: Sequence[str], *, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the options of all programs: the servers, and the number of rounds.

    :param purpose: the program's docstring; its first line is shown.
    :param servers: servers to measure unless the user names others.
    """
    made = argparse.ArgumentParser(prog=prog, description=(purpose or "").partition("\n")[0])
    made.add_argument("--servers", default=",".join(servers), help=f"by default {', '.join(servers)}")
    made.add_argument("--rounds", type=int, default=rounds)
    return made


def add_traffic(parser: argparse.ArgumentParser, *, seconds: float = 6.0, warm: float = 3.0) -> None:
    """Add the options that `traffic_of` reads."""
    parser.add_argument("--seconds", type=float, default=seconds, help="measured seconds of each load")
    parser.add_argument("--warm", type=float, default=warm, help="seconds of each load before its measurement")
    parser.add_argument("--content-bytes", type=int, default=200)
    parser.add_argument("--mark-interval", type=float, default=1.0, help="s between a device's marks; 0: no marks")


def traffic_of(options: argparse.Namespace, loads: str, *, window: int = 1) -> Traffic:
    """The traffic that the options ask for."""
    return Traffic(
        loads=loads,
        window=window,
        content_bytes=options.content_bytes,
        warm_s=options.warm,
        seconds=options.seconds,
        mark_interval_s=options.mark_interval,
    )


def servers_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The chosen servers that can run here; exits if the list is empty."""
    servers = usable(options.servers.split(","))
    return servers or sys.exit("nothing to measure")
