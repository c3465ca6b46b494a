"""The table of targets: each with its check, its mutator and its seeds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

from protocol.frames import Type
from tests.fuzz import connection, decoder, proxies, receiver, states
from tests.fuzz.frames import EXAMPLES, example_of, items_of
from tests.fuzz.mutators import Mutator, client_frame, mutate_bytes, mutate_message, mutate_some_of, mutate_stream
from tests.fuzz.plan import plan

Check = Callable[[bytes], None]


class Target(NamedTuple):
    """Code that reads bytes of a peer.

    :ivar open: gives the check, which raises if an input breaks a promise; after that the check is unusable.
    :ivar mutate: makes a new input by changing one.
    :ivar seeds: valid inputs, to begin with.
    :ivar max_bytes: of an input.
    """

    open: Callable[[], AbstractContextManager[Check]]
    mutate: Mutator
    seeds: list[bytes]
    max_bytes: int


_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_HEADERS: Final = [
    b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
    b"PROXY TCP6 2001:db8::7 ::ffff:10.0.0.1 56324 443\r\n",
    b"PROXY UNKNOWN\r\n",
    _V2 + b"\x21\x11\0\x0c" + b"\xc0\0\2\7" + b"\x0a\0\0\1" + b"\xdc\x04\x01\xbb",
    _V2 + b"\x21\x21\0\x24" + bytes(10) + b"\xff\xff\xc0\0\2\7" + bytes(15) + b"\1" + b"\xdc\x04\x01\xbb",
    _V2 + b"\x20\0\0\0",
]
_FORWARDED: Final = [
    b"192.0.2.9\x00198.51.100.1",
    b"10.0.0.1\x00203.0.113.5, 198.51.100.1:4711, 10.1.1.1",
    b"fd00::1\x00unknown\x00[2001:db8::7]:4711, ::ffff:10.0.0.2",
    b"@socket\0" + b"127.0.0.1," * 40,
]
_MESSAGES: Final = [client_frame(data) for data in EXAMPLES.from_client]
_REQUESTS: Final = [
    client_frame(data) for data in EXAMPLES.from_client if items_of(data)[0][0] not in (Type.HELLO, Type.BYE)
]
_CONTROLS: Final = client_frame(b"there?", 0x89) + client_frame(b"", 0x8A) + client_frame(b"\x03\xe8bye", 0x88)
_SEND: Final = example_of(Type.SEND)
_PARTS: Final = client_frame(_SEND[:9], 0x02) + client_frame(_SEND[9:], 0x80)

TARGETS: Final = {
    "decoder": Target(
        lambda: nullcontext(decoder.check),
        mutate_message,
        [*EXAMPLES.from_client, *EXAMPLES.from_server, b"".join(EXAMPLES.from_client)],
        16384,
    ),
    "receiver": Target(
        lambda: nullcontext(receiver.check),
        mutate_stream,
        [
            plan(b"".join(_MESSAGES), receiver.SMALL, b"\x07"),
            plan(_PARTS + _CONTROLS, receiver.SMALL, b"\1\2\3"),
            plan(client_frame(bytes(126), mask=b"mask")),
        ],
        4096,
    ),
    "states": Target(
        lambda: nullcontext(states.check),
        mutate_some_of(states.ACTIONS),
        [
            bytes((Type.HELLO, states.WELCOME, *states.ACTIONS)),
            bytes((Type.HELLO, states.DRAIN, states.WELCOME)),
        ],
        64,
    ),
    "proxies": Target(
        lambda: nullcontext(proxies.check),
        mutate_bytes,
        [b"\0" + data for data in _HEADERS] + [b"\1" + data for data in _FORWARDED],
        4200,
    ),
    "connection": Target(
        connection.open_loop,
        mutate_stream,
        [
            *(plan(data, connection.WELCOMED, b"\x07") for data in _MESSAGES),
            plan(b"".join(_REQUESTS), connection.WELCOMED | connection.PUSHES, b"\x80"),
            plan(b"".join(_REQUESTS), connection.WELCOMED | connection.REFUSES | connection.DRAINS, b"\x80"),
            plan(b"".join(_REQUESTS), connection.WELCOMED | connection.IS_DEAF | connection.PUSHES, b"\x2f"),
            plan(_PARTS + _CONTROLS, connection.WELCOMED | connection.LEAVES),
            plan(client_frame(example_of(Type.HELLO)) + client_frame(example_of(Type.PING)), connection.VANISHES),
            *(
                plan(header + connection.REQUEST + connection.HELLO, connection.IS_RAW)
                for header in (b"", _HEADERS[0], _HEADERS[3])
            ),
        ],
        2048,
    ),
}
