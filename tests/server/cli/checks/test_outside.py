"""What `ops doctor` says of the certificate in front and of the answer behind it, over real TLS."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio

from embedded.ports import free_port
from runtime.config import Config
from server.cli.checks.finding import Finding, Level
from server.cli.checks.outside import check_outside
from tests.tls import Authority, open_tls

READY = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"status": "ok"}'
NOT_READY = (
    b'HTTP/1.1 503 x\r\nConnection: close\r\n\r\n{"status": "unavailable", "reason": "Postgres cannot be reached"}'
)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts."""
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@asynccontextmanager
async def shown(authority: Authority, name: str, *, days: float = 90, answer: bytes = READY) -> AsyncGenerator[Config]:
    """A proxy with a certificate for this name that ends in so many days."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    ends = datetime.now(UTC) + timedelta(days=days, minutes=5)
    begins = min(datetime.now(UTC), ends) - timedelta(days=1)
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        inner = listener.socket.getsockname()[1]
        context = authority.server_context(name, lasts=(begins, ends))
        async with open_tls(context, inner) as port:
            yield Config(public_url=f"https://localhost:{port}")
        nursery.cancel_scope.cancel()


async def found(config: Config) -> dict[str, Finding]:
    return {each.check: each async for each in check_outside(config)}


@pytest.mark.parametrize(
    ("name", "days", "level", "says", "advice"),
    [
        ("localhost", 90, Level.OK, "localhost ends in 90 d", ""),
        ("localhost", 13, Level.WARNING, "localhost ends in 13 d", "renew it, reload the proxy"),
        ("localhost", -1, Level.ERROR, "certificate has expired", "renew it, reload the proxy"),
        ("other.example", 90, Level.ERROR, r"(?i)hostname mismatch.*it is for other\.example, until", "of this name"),
    ],
)
async def test_a_certificate_is_judged_by_name_and_end(
    authority: Authority, name: str, days: float, level: Level, says: str, advice: str
) -> None:
    async with shown(authority, name, days=days) as config:
        findings = await found(config)
    certificate = findings["certificate"]
    assert certificate.level is level, certificate
    assert re.search(says, certificate.found), certificate
    assert advice in certificate.advice
    assert findings["outside"].level is Level.OK, "whether web answers is another question"


async def test_a_certificate_of_an_unknown_authority_is_an_error(authority: Authority, tmp_path: Path) -> None:
    async with shown(Authority(tmp_path / "another"), "localhost") as config:
        certificate = (await found(config))["certificate"]
    assert certificate.level is Level.ERROR
    assert "clients do not trust that of localhost" in certificate.found
    assert "whole chain" in certificate.advice


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (NOT_READY, "answers 503: Postgres cannot be reached"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "answers 502"),
        (b"", "answers no HTTP"),
    ],
)
async def test_a_proxy_without_a_web_that_is_ready_is_an_error(authority: Authority, answer: bytes, says: str) -> None:
    async with shown(authority, "localhost", answer=answer) as config:
        outside = (await found(config))["outside"]
    assert outside.level is Level.ERROR
    assert outside.found.endswith(says)


async def test_a_proxy_that_is_away_is_an_error() -> None:
    findings = await found(Config(public_url=f"https://localhost:{free_port()}"))
    assert {each.level for each in findings.values()} == {Level.ERROR}
    assert findings["certificate"].found.endswith("Connection refused")
    assert "does not answer" in findings["outside"].found


async def test_without_a_public_url_there_is_nothing_to_look_at() -> None:
    assert {each.level for each in (await found(Config())).values()} == {Level.OK}
