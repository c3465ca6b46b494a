"""What a server of a Redis Cluster says of the masters: sans I/O (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

| reply | meaning | what the client does |
|---|---|---|
| `MOVED SLOT HOST:PORT` | another server is the master of the slot | sends the command there, and goes on there |
| `ASK SLOT HOST:PORT` | the slot is moving, and the key has moved | sends `ASKING` and this command there, once |
| `TRYAGAIN` | the slot is moving, and some of the keys have moved | sends the command again, a little later |
| `CLUSTERDOWN` | the slot has no master now, or the server sees too few others | fails the command |

A host that is empty is that of the server that was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from store.redis.servers import RedisError
from store.redis.url import Address

_NAMES_SERVER: Final = re.compile(r"(MOVED|ASK) \d+ (\S*):(\d+)\b")


class Moved(NamedTuple):
    to: Address


class Ask(NamedTuple):
    to: Address


class TryAgain(NamedTuple):
    pass


class ClusterDown(NamedTuple):
    pass


Redirect: TypeAlias = Moved | Ask | TryAgain | ClusterDown


def read_redirect(error: RedisError, asked: Address) -> Redirect | None:
    """What the error tells the client to do; None if it is no redirection.

    :param asked: the server that has answered.
    """
    if found := _NAMES_SERVER.match(str(error)):
        to = _address(found[2], int(found[3]), asked)
        return Moved(to) if found[1] == "MOVED" else Ask(to)
    match error.code:
        case "TRYAGAIN":
            return TryAgain()
        case "CLUSTERDOWN":
            return ClusterDown()
    return None


def read_masters(reply: Sequence[Any], slots: Sequence[int], asked: Address) -> list[Address | None]:
    """The master of each of these slots; None for a slot without one.

    :param reply: to `CLUSTER SLOTS`: ranges, each with its first and its last slot and its master.
    :param asked: the server that has answered.
    """
    ranges = list(_ranges(reply, asked))
    return [next((master for first, last, master in ranges if first <= slot <= last), None) for slot in slots]


def _ranges(reply: Sequence[Any], asked: Address) -> Iterator[tuple[int, int, Address]]:
    for first, last, (host, port, *_), *_ in reply:
        yield first, last, _address((host or b"").decode(), port, asked)


def is_whole(info: bytes) -> bool:
    """Whether the server takes part in the cluster.

    :param info: the reply to `CLUSTER INFO`.
    """
    return b"cluster_state:ok" in info


def _address(host: str, port: int, asked: Address) -> Address:
    return Address(asked.host if host in ("", "?") else host, port)
