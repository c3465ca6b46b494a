"""Each error that the client raises or meets has a reason in words, never an empty one, a class name or None."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpcore
import httpx
import pytest
import trio

from client.__main__ import main
from client.addressing import TooManyChanges
from client.chat_failures import why_not_done
from client.cli.failures import report
from client.commands import NotPossible
from client.connection import connect
from client.e2ee.vault import VaultFailure, WrongPassphrase
from client.errors import (
    AttachmentGone,
    ClientFailure,
    ConnectionLost,
    FileChanged,
    HttpRefused,
    InvalidAuthorities,
    LoginBusy,
    LoginReplaced,
    NoReply,
    ObjectGone,
    OutcomeUnknown,
    RequestExpired,
    RequestRefused,
    TransferFailed,
    Unreachable,
    WrongDigest,
)
from client.http import HttpClient
from client.login import LoginFile
from client.reasons import UNKNOWN, reason_of
from client.terminal import printable
from protocol.codes import CloseCode
from protocol.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from protocol.frames import Error
from tests.client.client_world import CREDENTIALS
from tests.rows import each_row
from tests.sentences import fault_of


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """The error, as if it was raised from its cause."""
    error.__cause__ = cause
    return error


def unverified(message: str = "") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    error.verify_message = message
    return error


def every(type_: type[BaseException]) -> list[type[BaseException]]:
    return [type_, *(each for child in type_.__subclasses__() for each in every(child))]


def of_httpx(type_: type[BaseException]) -> list[BaseException]:
    if issubclass(type_, httpx.HTTPStatusError):
        return []  # `raise_for_status` alone raises it.
    return [type_(text) for text in ("", "[Errno 111] Connection refused", "illegal status line: bytearray(b'x')")]


HTTPX = [type_ for type_ in every(httpx.HTTPError) if type_.__module__.startswith("httpx")]
BARE = (OSError, TimeoutError, ConnectionResetError, BrokenPipeError, socket.gaierror, ssl.SSLError)
ERRNOS = [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EMFILE, 0, 99999]
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")

MET: list[BaseException] = [
    *(type_() for type_ in BARE),
    *(OSError(number, "") for number in ERRNOS),
    *(OSError(errno.ENOENT, "x", name) for name in ("/a/file", b"/a/file", "\x1b[2J", 7)),
    OSError("all attempts to connect to 127.0.0.1:1 failed"),
    caused(OSError("all attempts failed"), ExceptionGroup("x", [REFUSED])),
    socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError(6, ""),
    unverified(),
    unverified("self-signed certificate"),
    *(type_() for type_ in (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)),
    caused(trio.BrokenResourceError(), unverified("unable to get local issuer certificate")),
    caused(trio.BrokenResourceError(), ConnectionResetError(errno.ECONNRESET, "reset")),
    *(error for type_ in HTTPX for error in of_httpx(type_)),
    *(caused(error, httpcore.ConnectError()) for type_ in HTTPX for error in of_httpx(type_)),
    caused(httpx.ConnectError(""), caused(httpcore.ConnectError(), OSError(errno.ENETUNREACH, ""))),
    httpx.InvalidURL("Invalid port: 'x'"),
    UnicodeError("label too long"),
    RemoteProtocolError(CloseCode.BAD_FRAME, "the server answered with done instead of sent"),
    LocalProtocolError("content (key 8) must be 0 to 65536 bytes"),
    LocalProtocolError(),
]
RAISED: list[ClientFailure] = [
    Unreachable("ws://127.0.0.1:1: no server listens there"),
    *(HttpRefused(400, "invalid_body", detail) for detail in ("", "because")),
    *(HttpRefused(418, "new", detail) for detail in ("", "because")),
    *(HttpRefused(401, code, "") for code in ("wrong_credentials", "unauthenticated")),
    HttpRefused(409, "username_taken", ""),
    RequestRefused(Error(1, "overloaded", "The server has more work queued than it accepts.", 500)),
    RequestRefused(Error(1, "later", "")),
    NoReply("no reply to send within 15 s"),
    OutcomeUnknown(bytes(16)),
    *(ConnectionLost(code.value, reason) for code in CloseCode for reason in ("", "because")),
    *(ConnectionLost(code, "") for code in (1005, 1006, 4499, 4999)),
    InvalidAuthorities("SSL_CERT_FILE must be a file of certificates: /nope: No such file or directory"),
    LoginBusy(30.0),
    LoginReplaced(),
    AttachmentGone(),
    FileChanged(Path("/tmp/letter")),
    *(type_("the object store answers with status 418") for type_ in (TransferFailed, RequestExpired, ObjectGone)),
    WrongDigest(),
    VaultFailure("the file with the keys cannot be used: database is locked"),
    WrongPassphrase(),
    TooManyChanges(),
]


@each_row("error", MET, ids=repr)
def test_each_exception_has_a_reason(error: BaseException) -> None:
    reason = reason_of(error)
    assert fault_of(reason) is None, (reason, fault_of(reason))


@each_row("error", [*MET, *RAISED], ids=repr)
def test_a_command_ends_with_one_whole_sentence(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    if not isinstance(error, (ClientFailure, ProtocolError, OSError)):
        error = Unreachable(f"http://server.test: {reason_of(error)}")
    assert report(ExceptionGroup("", [error]), "ann") == 1  # type: ignore[type-var]
    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert fault_of(said.removesuffix("\n")) is None, (said, fault_of(said.removesuffix("\n")))


@each_row("error", [*RAISED, LocalProtocolError("x"), LocalProtocolError(), NotPossible("no")], ids=repr)
def test_a_line_that_could_not_be_sent_says_why(error: Exception) -> None:
    assert fault_of(why_not_done(error)) is None


def test_all_that_the_client_raises_is_tried_here() -> None:
    assert {type(error) for error in RAISED} == set(every(ClientFailure)) - {ClientFailure}


def test_an_unforeseen_exception_has_a_reason_too() -> None:
    assert reason_of(ValueError("<class 'int'>")) == UNKNOWN


def test_the_innermost_known_cause_is_told() -> None:
    refused = caused(httpcore.ConnectError(), caused(OSError("all failed"), ConnectionRefusedError(111, "x")))
    assert reason_of(caused(httpx.ConnectError("x"), refused)) == "no server listens there"
    hidden = caused(trio.BrokenResourceError(), unverified("certificate has expired"))
    assert reason_of(hidden) == "its certificate is not trusted: certificate has expired"


Stranger = Callable[[trio.SocketStream], Awaitable[None]]


async def hang_up(_: trio.SocketStream) -> None: ...


def says(data: bytes) -> Stranger:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(data)

    return answer


STRANGERS: dict[str, Stranger] = {
    "hangs up": hang_up,
    "says nothing we know": says(b"220 mail.test ESMTP\r\n"),
    "a page": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    "an error": says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
    "half an answer": says(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "a promise": says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhi"),
    "no text": says(b"\x15\x03\x03\x00\x02\x02\x28"),
    "another subprotocol": says(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    ),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "https"])
async def test_a_stranger_that_listens_there_is_told_at_once(stranger: str, scheme: str, nursery: trio.Nursery) -> None:
    """The client reports a server that has hung up at once, not after its timeout."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await STRANGERS[stranger](stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
    with trio.fail_after(5), pytest.raises(Unreachable) as unreachable:
        await (talk if scheme.startswith("ws") else ask)(url)
    nursery.cancel_scope.cancel()
    assert fault_of(str(unreachable.value)) is None, str(unreachable.value)


async def talk(url: str) -> None:
    async with connect(url, "token", timeout_s=60):
        pass


async def ask(url: str) -> None:
    async with HttpClient(url, timeout_s=60) as http:
        await http.user("bob")


ADDRESSES = [
    "http://127.0.0.1:1",
    "https://127.0.0.1:1",
    "http://nobody.invalid",
    "http://" + "a" * 64 + ".test",
    "http://[::1",
    "http://127.0.0.1:x",
    "ftp://127.0.0.1",
    "nonsense",
    "",
    "http://",
    "http://\x1b[2J",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_wrong_address_is_one_sentence(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ALO_HTTP_URL", address or " ")
    LoginFile(address or " ", "ann").save(CREDENTIALS)
    assert main(["list", "ann"]) == 1
    said = capsys.readouterr().err
    assert fault_of(said.removesuffix("\n")) is None, said


@pytest.mark.parametrize("address", [each.replace("http", "ws", 1) for each in ADDRESSES])
async def test_a_wrong_address_of_a_gateway_is_one_sentence(address: str) -> None:
    with trio.fail_after(20), pytest.raises(Unreachable) as unreachable:
        await talk(address)
    assert fault_of(printable(str(unreachable.value))) is None, str(unreachable.value)
