"""Checks of the processes of this machine: each is asked for its health, on its port for operators."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final, NamedTuple

import trio

from runtime.config import MAX_INSTANCES, Config
from runtime.health import CHECK_S
from runtime.operations import PORT_STEPS, operator_port
from server.cli.checks.finding import Finding, error, ok
from server.cli.checks.listeners import listener

LIVES_S: Final = 3.0
"""For `/healthz`, which waits for nothing."""

READY_S: Final = CHECK_S + 2
"""For `/readyz`, which asks Postgres and Redis."""

AT_LEAST: Final = 4
"""Instances of a kind that are looked for. Beyond them the first number that no kind has ends the search."""

MAX_ANSWER_BYTES: Final = 8192
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class AskedHealth(NamedTuple):
    """
    :ivar status: of HTTP.
    :ivar reason: why it is not 200; empty if it is.
    """

    status: int
    reason: str


async def check_processes(config: Config) -> AsyncIterator[Finding]:
    """A finding for each process that listens on this machine. One that has ended listens no more, and has none."""
    if not config.metrics_port:
        yield ok("processes", "not visible: METRICS_PORT is 0")
        return
    is_empty = True
    for instance in range(1, MAX_INSTANCES + 1):
        found: dict[str, Finding | None] = {}
        async with trio.open_nursery() as nursery:
            for kind in PORT_STEPS:
                nursery.start_soon(_note, found, config, kind, instance)
        findings = [each for kind in PORT_STEPS if (each := found[kind])]
        for finding in findings:
            is_empty = False
            yield finding
        if not findings and instance >= AT_LEAST:
            break
    if is_empty:
        yield ok("processes", "none runs on this machine, or METRICS_HOST and METRICS_PORT are those of others")


async def _note(found: dict[str, Finding | None], config: Config, kind: str, instance: int) -> None:
    port = operator_port(replace(config, instance=instance), kind)
    host = _EVERYWHERE.get(config.metrics_host, config.metrics_host)
    found[kind] = await _check_process(host, port, f"{kind} {instance}") if port <= 65535 else None


async def _check_process(host: str, port: int, name: str) -> Finding | None:
    """None: there is no process of ours."""
    try:
        lives = await _ask(host, port, "/healthz", LIVES_S)
        ready = await _ask(host, port, "/readyz", READY_S)
    except OSError:
        return None
    except trio.TooSlowError:
        return _hanging(port, name)
    if lives is None or ready is None:
        return None
    if lives.reason:
        advice = f"restart it; if SIGTERM does not end it in 30 s, by SIGKILL ({_unit(name)}). Keep its log"
        return error("processes", f"{name} (port {port}) is stuck: {lives.reason}", advice)
    if ready.reason:
        advice = "it says why; the findings about Postgres and Redis say more"
        return error("processes", f"{name} (port {port}) is not ready: {ready.reason}", advice)
    return ok("processes", f"{name} (port {port}) is ready")


def _hanging(port: int, name: str) -> Finding:
    process = listener(port)
    found = f"{name} (port {port}) hangs: it takes connections, and does not answer"
    advice = f"end it by SIGKILL, and start it again ({_unit(name)}): nothing that was acknowledged is lost"
    if process is None:
        return error("processes", found, advice)
    found += f"; process {process.pid} {process.state}"
    if process.is_stopped:
        advice = f"let it go on: kill -CONT {process.pid}; or {advice}"
    return error("processes", found, advice)


def _unit(name: str) -> str:
    kind, _, instance = name.partition(" ")
    return f"systemctl status alo-{kind}@{instance}"


async def _ask(host: str, port: int, path: str, patience_s: float) -> AskedHealth | None:
    """None: another program has answered.

    :raises OSError: if nothing listens there.
    :raises trio.TooSlowError: if it does not answer in time.
    """
    answer = b""
    with trio.fail_after(patience_s):
        stream = await trio.open_tcp_stream(host, port)
        async with stream:
            try:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                while len(answer) <= MAX_ANSWER_BYTES and (piece := await stream.receive_some()):
                    answer += piece
            except trio.BrokenResourceError:
                return None
    return parse_health(answer)


def parse_health(answer: bytes) -> AskedHealth | None:
    """An answer of HTTP from a port for operators; None if it is not one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    try:
        status, content = int(words[1]), json.loads(body)
        is_ok = content["status"] == "ok"
        return AskedHealth(status, "" if is_ok else str(content["reason"]))
    except (ValueError, IndexError, KeyError, TypeError):
        return None
