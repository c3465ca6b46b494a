"""The client trusts the authorities of SSL_CERT_FILE, else the machine's, over HTTP and WebSocket alike."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import cbor2
import certifi
import pytest
import trio

from client import tls
from client.connection import connect
from client.errors import HttpRefused, InvalidAuthorities, Unreachable
from client.http import HttpClient
from client.tls import trusting_context
from tests.sentences import fault_of
from tests.tls import Authority, open_tls

ERROR = cbor2.dumps({"code": "x", "detail": "because"})
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(ERROR), ERROR)


async def talk(port: int) -> str:
    """The server's answer to a WebSocket handshake: 404."""
    try:
        async with connect(f"wss://localhost:{port}", "token"):
            return "welcomed"
    except Unreachable as error:
        return str(error).removeprefix(f"wss://localhost:{port}").lstrip(": ")


async def ask(port: int) -> str:
    try:
        async with HttpClient(f"https://localhost:{port}") as http:
            await http.user("bob")
    except HttpRefused as refused:
        return f"answered with status {refused.status}"
    except Unreachable as error:
        return str(error).removeprefix(f"https://localhost:{port}/v1/users/bob").lstrip(": ")
    raise AssertionError("there is no bob")


WAYS = pytest.mark.parametrize("way", [talk, ask])


async def serve(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(NOT_FOUND)


async def say(way: Callable[[int], Awaitable[str]], context: ssl.SSLContext, nursery: trio.Nursery) -> str:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    async with open_tls(context, listener.socket.getsockname()[1]) as port:
        said = await way(port)
    nursery.cancel_scope.cancel()
    return said


@WAYS
async def test_authorities_of_the_environment_are_trusted(
    way: Callable[[int], Awaitable[str]], nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert await say(way, authority.server_context("localhost"), nursery) == "answered with status 404"


@WAYS
async def test_the_machine_s_authorities_are_trusted(
    way: Callable[[int], Awaitable[str]], nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test cannot install an authority on the machine, so it makes OpenSSL look elsewhere."""
    authority = Authority(tmp_path / "ca")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    def look_elsewhere(context: ssl.SSLContext) -> None:
        context.load_verify_locations(authority.file)

    monkeypatch.setattr("ssl.SSLContext.set_default_verify_paths", look_elsewhere)
    assert await say(way, authority.server_context("localhost"), nursery) == "answered with status 404"


@WAYS
@pytest.mark.parametrize(("name", "is_known"), [("localhost", False), ("elsewhere.test", True)])
async def test_any_other_certificate_is_refused_with_a_sentence(
    way: Callable[[int], Awaitable[str]],
    name: str,
    is_known: bool,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str((authority if is_known else other).file))
    said = await say(way, authority.server_context(name), nursery)
    assert said.startswith("its certificate is not trusted: ")
    assert fault_of(said) is None


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "SSL_CERT_FILE",
            "{}/nothing.pem",
            "must be a file of certificates: {}/nothing.pem: No such file or directory",
        ),
        ("SSL_CERT_FILE", "{}/empty.pem", "must hold certificates in PEM: {}/empty.pem holds none"),
        ("SSL_CERT_DIR", "{}/nothing", "must be a folder of certificates: {}/nothing is not one"),
    ],
)
async def test_a_variable_that_names_nothing_is_told(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").touch()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(variable, value.format(tmp_path))
    with pytest.raises(InvalidAuthorities) as invalid:
        trusting_context()
    assert str(invalid.value) == f"{variable} {said.format(tmp_path)}"
    HttpClient("http://server.test")  # Plain HTTP needs no certificate.
    with pytest.raises(InvalidAuthorities):
        HttpClient("https://server.test")
    with pytest.raises(Unreachable, match=variable):
        async with connect("wss://localhost:1", "token"):
            pass


def test_an_interpreter_that_looks_elsewhere_finds_the_machine_s_bundle_or_brings_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", "/nope", "SSL_CERT_DIR", "/nope")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: nowhere)
    authority = Authority(tmp_path / "ca")
    monkeypatch.setattr(tls, "BUNDLES", ("/nope", str(authority.file)))
    assert len(trusting_context().get_ca_certs()) == 1
    monkeypatch.setattr(tls, "BUNDLES", ("/nope",))
    mozilla = ssl.create_default_context(cafile=certifi.where())
    assert len(trusting_context().get_ca_certs()) == len(mozilla.get_ca_certs()) > 50
