"""Envelopes: bytes that a message or an edit has for each of some devices, in one row for all of these.

`send` and `edit` write them with the message (`store.messages`, `store.revisions`). Readers of messages find out
whether a message has any, and read those of their device after it: one query, and none for a page without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, Final, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Conversation, Envelope, Message
from protocol.limits import ENVELOPE_DAYS
from store import sql
from store.postgres.columns import BIGINTS, UUID, UUIDS
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.postgres.statement import Statement

_sql = sql.load("envelopes")
_MESSAGES: Final = {"conversations": UUIDS, "seqs": BIGINTS, "revisions": BIGINTS}
OWN_ENVELOPES: Final = Statement(_sql.own, {**_MESSAGES, "device": UUID})
ALL_ENVELOPES: Final = Statement(_sql.of_messages, _MESSAGES)

EnvelopeTable: TypeAlias = Mapping[bytes, bytes]
"""Device -> its envelope of a message."""

_F = TypeVar("_F")


class PackedEnvelopes(Struct, frozen=True, gc=False):
    """Envelopes as a row has them.

    :ivar ends: the end of each device's envelope in the body.
    """

    devices: list[bytes]
    ends: list[int]
    body: bytes

    @property
    def framed(self) -> tuple[bytes, ...]:
        """Parts that together are everything that a retry must repeat. No two lists of envelopes have the same bytes:
        the ends, which come first, say how many devices of 16 bytes follow."""
        return repr(self.ends).encode(), *self.devices, self.body

    def digest(self) -> bytes:
        """Of `framed`. 32 bytes."""
        return blake2b(b"".join(self.framed), digest_size=32).digest()


def pack(envelopes: Sequence[Envelope] | None) -> PackedEnvelopes | None:
    """None for none."""
    if envelopes is None:
        return None
    devices, bodies = zip(*envelopes, strict=True)
    return PackedEnvelopes(list(devices), list(accumulate(map(len, bodies))), b"".join(bodies))


def columns_of(batch: Sequence[PackedEnvelopes | None], looked_up: Collection[int]) -> dict[str, list[Any] | None]:
    """The envelopes of a batch of sends as the parameters of `send` in messages.sql.

    :param looked_up: places in the batch, of sends whose devices Postgres has to find in the device set.
    """
    devices: list[bytes] = []
    ends: list[int] = []
    of: list[int | None] = []
    upto: list[int] = []
    for n, each in enumerate(batch):
        if each is not None:
            devices += each.devices
            ends += each.ends
            if looked_up:
                of += [n + 1 if n in looked_up else None] * len(each.devices)
        upto.append(len(devices))
    return {
        "envelopes": [None if each is None else each.body for each in batch],
        "envelope_devices": devices,
        "envelope_ends": ends,
        "envelope_of": of if looked_up else None,
        "envelope_upto": upto,
    }


async def with_own(pool: StatementReader, device: bytes, frames: list[_F]) -> list[_F]:
    """These frames, with the device's envelope in each message that has one for it; also in the last message of a
    conversation. One query; none, and the same list, if no message has envelopes."""
    found = {n: message for n, frame in enumerate(frames) if (message := _enveloped(frame)) is not None}
    if not found:
        return frames
    order = list(found)
    rows = await pool.read(OWN_ENVELOPES, {**_places(list(found.values())), "device": device})
    told = list(frames)
    for place, envelope in rows:
        n = order[place - 1]
        told[n] = _with(told[n], replace(found[n], envelope=envelope))
    return told


async def tables_of(pool: Pool, messages: Sequence[object]) -> list[EnvelopeTable | None]:
    """For each of these messages the envelopes of all devices, for a node that pushes it; None: it has none. One query,
    or none if no message has envelopes."""
    tables: list[EnvelopeTable | None] = [None] * len(messages)
    found = {n: message for n, each in enumerate(messages) if (message := _enveloped(each)) is not None}
    if found:
        order = list(found)
        for place, devices, bodies in await pool.read(ALL_ENVELOPES, _places(list(found.values()))):
            tables[order[place - 1]] = dict(zip(devices, bodies, strict=True))
    return tables


async def page_with_own(pool: StatementReader, device: bytes | None, page: list[_F], max_bytes: int | None) -> list[_F]:
    """As `with_own`, for messages in the order of their importance: the first ones, up to so many bytes.

    :param device: None: the page as it is.
    """
    told = page if device is None else await with_own(pool, device, page)
    return page if told is page else _within(told, max_bytes)


def _within(messages: Sequence[_F], max_bytes: int | None) -> list[_F]:
    """The first of these messages, up to so many bytes with their envelopes, but at least one.

    The queries of pages count all other bytes; envelopes are read after them.
    """
    kept: list[_F] = []
    size = 0
    for message in messages:
        size += size_of(message)
        if kept and max_bytes is not None and size > max_bytes:
            break
        kept.append(message)
    return kept


def size_of(frame: object) -> int:
    """The bytes of a message that count for the size of a page, with its envelope; 0 for a tombstone."""
    if not isinstance(frame, Message):
        return 0
    parts = (frame.content, frame.nonce, frame.ephemeral_public_key, frame.thumbnail, frame.envelope)
    return sum(len(part) for part in parts if part is not None) + 17 * len(frame.attachments or ())


async def forget_envelopes(pool: Pool, *, limit: int) -> int:
    """Delete envelopes that are older than `ENVELOPE_DAYS`; return how many rows, each of one send or edit."""
    [(gone,)] = await pool.fetch(_sql.forget, {"days": ENVELOPE_DAYS, "limit": limit})
    return int(gone)


def _enveloped(frame: object) -> Message | None:
    """The message in a frame, if it has envelopes."""
    message = frame.last_message if isinstance(frame, Conversation) else frame
    return message if isinstance(message, Message) and message.has_envelopes else None


def _with(frame: _F, message: Message) -> _F:
    if isinstance(frame, Conversation):
        return replace(frame, last_message=message)
    return message  # type: ignore[return-value]  # the frame is a message, too


def _places(messages: Sequence[Message]) -> dict[str, list[bytes] | list[int]]:
    return {
        "conversations": [message.conversation for message in messages],
        "seqs": [message.seq for message in messages],
        "revisions": [message.revision or 0 for message in messages],
    }
