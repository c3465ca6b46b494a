"""Attackers: connections that ask for as much as they are given. A process of its own, until its input ends.

    python -m bench.attackers --port PORT --attack NAME --connections 300 --tokens-file FILE

Each connection has one request in flight, and makes the next one as soon as it has the answer; a connection that is
lost is opened again. The process prints how many answers there were of each status. Its priority is low: on a real
network the attackers' CPU is not the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import count, cycle
from pathlib import Path
from typing import Final

import trio

from bench.processes import LOOPBACK

NICENESS: Final = 10
AGAIN_S: Final = 0.2
"""Until a connection that was lost is opened again."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)

ONE_ADDRESS: Final = "127.0.0.2"


def _post(path: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"{head}\r\n\r\n".encode() + text


def _get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def _wrong_logins() -> Iterator[bytes]:
    for number in count():
        yield _post("/v1/devices", {"username": f"user{number}", "password": "a wrong guess", "name": "attacker"})


def _registrations() -> Iterator[bytes]:
    for number in count():
        yield _post("/v1/users", {"username": f"attacker{os.getpid()}.{number}", "password": "correct horse battery"})


def _histories(tokens: Mapping[str, str]) -> Iterator[bytes]:
    for token, conversation in cycle(tokens.items()):
        yield _get(f"/v1/conversations/{conversation}/messages", token)


def _wrong_tokens() -> Iterator[bytes]:
    for number in count():
        yield _get("/v1/conversations", f"wrong{number}")


def _half_heads() -> Iterator[bytes]:
    yield from cycle([b"GET /v1/conversations HTTP/1.1\r\nHost: x\r\nX-Half: "])


ATTACKS: Final[dict[str, tuple[Callable[[Mapping[str, str]], Iterator[bytes]], bool]]] = {
    "wrong-logins": (lambda _: _wrong_logins(), False),
    "wrong-logins-many-addresses": (lambda _: _wrong_logins(), True),
    "registrations": (lambda _: _registrations(), False),
    "histories": (_histories, False),
    "wrong-tokens": (lambda _: _wrong_tokens(), False),
    "half-heads": (lambda _: _half_heads(), False),
}
"""Name -> the requests, made from tokens and a conversation of each, and whether each connection has an address of its
own."""


class Attackers:
    """The connections of one attack."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self._port = port
        self._requests = requests
        self.answers: Counter[str] = Counter()

    async def run(self, addresses: list[str]) -> None:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(self._attack, address)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()

    async def _attack(self, address: str) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream(LOOPBACK, self._port, local_address=address) as stream:
                    await self._ask(stream)
            except OSError:
                pass
            except trio.BrokenResourceError:
                pass
            self.answers["lost"] += 1
            await trio.sleep(AGAIN_S)

    async def _ask(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            await stream.send_all(next(self._requests))
            while (end := data.find(b"\r\n\r\n")) < 0 or len(data) < end + 4 + _length(data):
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            self.answers[data[9:12].decode()] += 1
            data = data[end + 4 + _length(data) :]


def _length(data: bytes) -> int:
    found = _LENGTH.search(data)
    return int(found[1]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.attackers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--attack", choices=ATTACKS, required=True)
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--tokens-file", type=Path, required=True, help="JSON: token -> a conversation of its user")
    options = parser.parse_args()
    os.nice(NICENESS)
    make, has_addresses = ATTACKS[options.attack]
    attackers = Attackers(options.port, make(json.loads(options.tokens_file.read_text())))
    numbers = range(options.connections)
    trio.run(attackers.run, [f"127.1.{n // 250}.{n % 250 + 1}" if has_addresses else ONE_ADDRESS for n in numbers])
    print(json.dumps(attackers.answers))


if __name__ == "__main__":
    main()
