"""The entries of a node's stream: the messages of other processes to a node, encoded in CBOR (kind, body).

| kind | item | what the node does |
|---|---|---|
| 1 | `AddressedPush`, several | pushes the frames to its connections |
| 2 | `CatchUpRequest` | looks for pushes that it may have missed |
| 3 | `PresenceHint` | looks up whether these users are online |
| 4 | `PresenceRecheck` | checks again which users may watch these users |
| 5 | `NodeQuestion` | answers an operator about itself and some of its connections (`store.redis.questions`) |
| 6 | `DrainRequest` | stops, as if it was told by SIGTERM |

A node ignores other kinds, which a later version may write: its next catch-up or poll finds the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import cbor2

_PUSHES: Final = 1
_CATCH_UP: Final = 2
_HINT: Final = 3
_RECHECK: Final = 4
_QUESTION: Final = 5
_DRAIN: Final = 6


class AddressedPush(NamedTuple):
    """An encoded push frame, and the users that it is for.

    :ivar seq: of a new message, which is pushed in the order of its conversation; 0 for anything else.
    :ivar frame: encoded once for all receivers.
    :ivar users: participants; in an entry, those that the receiving node holds.
    :ivar origin: the connection that sent the message: it gets a reply instead of a push. Known on its own node only.
    :ivar key: of an ephemeral push: the next push with the same key replaces it. None for a push that must arrive.
    :ivar cause: the user whose request caused the push, for a message its sender. Pushes that wait are served in turn
        by it (`server.delivery.push_queue`). Empty for work that no user asked for.
    :ivar temp_id: of a message, for the devices of its sender. The frame, which all others get, has none.
    :ivar committed_us: when a new message was committed, by Postgres' clock, in microseconds since 1970; 0: not known.
    :ivar trace: of a sampled message, the context of the span that the push belongs to, 24 bytes.
    :ivar envelopes: of a message, device -> its envelope, which that device alone gets. The frame, which all others
        get, has none. None: no device gets one.
    """

    conversation: bytes
    seq: int
    frame: bytes
    users: Collection[bytes]
    origin: object | None = None
    key: bytes | None = None
    cause: bytes = b""
    temp_id: bytes | None = None
    committed_us: int = 0
    trace: bytes | None = None
    envelopes: Mapping[bytes, bytes] | None = None

    @property
    def size_bytes(self) -> int:
        """The bytes of the frame and of all envelopes."""
        size = len(self.frame)
        return size if self.envelopes is None else size + sum(map(len, self.envelopes.values()))


class CatchUpRequest(NamedTuple):
    """The node may have missed pushes of the last `ago_s` seconds."""

    ago_s: float


class PresenceHint(NamedTuple):
    """These users have come to the writing node, or left it."""

    users: list[bytes]


class PresenceRecheck(NamedTuple):
    """The rules for who may watch these users' presence have changed."""

    users: list[bytes]


class NodeQuestion(NamedTuple):
    """An operator asks for the state of the node.

    :ivar id: of the question, which names the list in Redis that takes the answer.
    :ivar users: whose connections the answer describes one by one.
    """

    id: bytes
    users: list[bytes]


class DrainRequest(NamedTuple):
    """An operator asks the node to stop."""


EntryItem: TypeAlias = AddressedPush | CatchUpRequest | PresenceHint | PresenceRecheck | NodeQuestion | DrainRequest


def encode_pushes(pushes: Iterable[tuple[AddressedPush, Sequence[bytes]]]) -> bytes:
    """An entry of pushes, each with those of its users that the receiving node holds."""
    rows = [
        [
            push.conversation,
            push.seq,
            push.frame,
            push.key,
            b"".join(users),
            push.cause,
            push.committed_us,
            *_for_few(push, users),
        ]
        for push, users in pushes
    ]
    return cbor2.dumps([_PUSHES, rows])


def encode_catch_up_request(ago_s: float) -> bytes:
    return cbor2.dumps([_CATCH_UP, ago_s])


def encode_presence_hint(users: Iterable[bytes]) -> bytes:
    return cbor2.dumps([_HINT, b"".join(users)])


def encode_presence_recheck(users: Iterable[bytes]) -> bytes:
    return cbor2.dumps([_RECHECK, b"".join(users)])


def encode_question(id: bytes, users: Iterable[bytes]) -> bytes:
    return cbor2.dumps([_QUESTION, [id, b"".join(users)]])


def encode_drain_request() -> bytes:
    return cbor2.dumps([_DRAIN, None])


def decode_entry(entry: bytes) -> Iterator[EntryItem]:
    """The items of an entry that another process wrote; none for an unknown kind."""
    kind, body = cbor2.loads(entry)
    if kind == _CATCH_UP:
        yield CatchUpRequest(body)
    elif kind == _HINT:
        yield PresenceHint(_split(body))
    elif kind == _RECHECK:
        yield PresenceRecheck(_split(body))
    elif kind == _QUESTION:
        yield NodeQuestion(body[0], _split(body[1]))
    elif kind == _DRAIN:
        yield DrainRequest()
    elif kind == _PUSHES:
        for conversation, seq, frame, key, joined, cause, committed_us, *rest in body:
            temp_id, trace, envelopes = (*rest, None, None, None)[:3]
            users = _split(joined)
            yield AddressedPush(
                conversation, seq, frame, users, None, key, cause, temp_id, committed_us, trace, envelopes
            )


def _for_few(push: AddressedPush, users: Sequence[bytes]) -> tuple[bytes | Mapping[bytes, bytes] | None, ...]:
    """What few pushes have: the temp_id, for the devices of a message's sender if the node holds some; the trace; the
    envelopes, of which the node finds those of its devices."""
    temp_id = push.temp_id if push.cause in users else None
    if push.envelopes is not None:
        return temp_id, push.trace, push.envelopes
    if push.trace is not None:
        return temp_id, push.trace
    return () if temp_id is None else (temp_id,)


def _split(users: bytes) -> list[bytes]:
    return [users[at : at + 16] for at in range(0, len(users), 16)]
