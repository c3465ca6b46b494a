"""A general parser accepts every handshake that `plain_upgrade` accepts; `plain_upgrade` leaves the others to it."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import RemoteProtocolError

from protocol import limits
from server.transport.upgrade import plain_upgrade
from tests.rows import each_row

HEADERS: Final = {
    b"Host": b"chat.example:8001",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Protocol": limits.SUBPROTOCOL.encode(),
}
LINE: Final = b"GET %s HTTP/1.1" % limits.SOCKET_PATH.encode()


def head(headers: list[tuple[bytes, bytes]], line: bytes = LINE) -> bytes:
    return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", b""])


def general(data: bytes) -> bytes | None:
    """The Sec-WebSocket-Accept of wsproto's answer; None if it refuses the request, or path or protocol differ."""
    connection = WSConnection(ConnectionType.SERVER)
    try:
        connection.receive_data(data)
        [request] = connection.events()
        assert isinstance(request, Request)
        if request.target.partition("?")[0] != limits.SOCKET_PATH or limits.SUBPROTOCOL not in request.subprotocols:
            return None
        answer = connection.send(AcceptConnection(subprotocol=limits.SUBPROTOCOL))
    except (RemoteProtocolError, UnicodeError):
        return None
    return accept_of(answer)


def accept_of(answer: bytes) -> bytes:
    assert answer.startswith(b"HTTP/1.1 101 ")
    [value] = [line[22:] for line in answer.split(b"\r\n") if line.lower().startswith(b"sec-websocket-accept: ")]
    return value


def test_the_upgrade_of_an_ordinary_client_is_accepted() -> None:
    """The example of RFC 6455, section 1.3."""
    upgrade = plain_upgrade(head([*HEADERS.items(), (b"X-Forwarded-For", b"1.2.3.4, 5.6.7.8")]))
    assert upgrade is not None
    assert accept_of(upgrade.answer) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert upgrade.forwarded_for == ["1.2.3.4, 5.6.7.8"]


@each_row(
    ("name", "value"),
    [
        *((name, b"") for name in HEADERS),
        (b"Upgrade", b"h2c"),
        (b"Connection", b"close"),
        (b"Sec-WebSocket-Key", b"short=="),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==\x00"),
        (b"Sec-WebSocket-Version", b"8"),
        (b"Sec-WebSocket-Protocol", b"other"),
        (b"Content-Length", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Forwarded-For", "é".encode()),
    ],
)
def test_an_unusual_or_wrong_request_is_left_to_the_general_parser(name: bytes, value: bytes) -> None:
    assert plain_upgrade(head([*(HEADERS | {name: value}).items()])) is None
    assert plain_upgrade(head([(each, text) for each, text in HEADERS.items() if each != b"Host"])) is None
    assert plain_upgrade(head([*HEADERS.items(), *HEADERS.items()])) is None
    for line in (
        b"POST /v1/socket HTTP/1.1",
        b"GET /v1/socket HTTP/1.0",
        b"GET /v2/socket HTTP/1.1",
        b"GET /v1/socket",
    ):
        assert plain_upgrade(head([*HEADERS.items()], line)) is None


_names = st.sampled_from([*HEADERS, b"X-Forwarded-For", b"Origin", b"Cookie", b"x", b"Content-Length", b"a b", b""])
_values = st.sampled_from([*HEADERS.values(), b"keep-alive, Upgrade", b"alo.v1, other", b"13 ", b"a\tb", b"\xff", b""])
_lines = st.sampled_from([LINE, LINE.replace(b" HTTP", b"?a=b HTTP"), b"GET / HTTP/1.1", b"get /v1/socket HTTP/1.1"])


@given(st.lists(st.tuples(_names, _values | st.binary(max_size=20)), max_size=4), _lines, st.randoms())
def test_it_accepts_nothing_that_the_general_parser_refuses(
    more: list[tuple[bytes, bytes]], line: bytes, chance: object
) -> None:
    headers = [*HEADERS.items(), *more]
    chance.shuffle(headers)  # type: ignore[attr-defined]
    data = head(headers, line)
    upgrade = plain_upgrade(data)
    if upgrade is not None:
        assert general(data) == accept_of(upgrade.answer)
