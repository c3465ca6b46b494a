"""Messages that devices cannot decrypt, and the envelopes by which they heal in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from protocol.frames import Envelope
from protocol.limits import (
    MAX_ENVELOPE_PARTS,
    MAX_OPEN_REPORTS,
    MAX_REPORTS,
    MAX_TOLD_REPORTS,
    OPEN_REPORTS_PER_DEVICE,
    REPORT_DAYS,
    REPORTS_PER_MESSAGE,
)
from store import sql
from store.envelopes import pack
from store.errors import (
    NoIdentity,
    OwnMessage,
    QuotaExceeded,
    Refused,
    UnlistedDevices,
)
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.revisions import REFUSED_CHANGES, MessageChange
from store.rows import message_of

_sql = sql.load("undecryptable")
_REFUSED: Final[dict[str, type[Refused]]] = {**REFUSED_CHANGES, "own": OwnMessage, "unidentified": NoIdentity}


class UndecryptableReport(Struct, frozen=True):
    """A device cannot decrypt a message.

    :ivar user: of the device.
    :ivar told_device: of the sender; None: each other device of the sender.
    :ivar at: in microseconds since 1970.
    """

    conversation: bytes
    seq: int
    user: bytes
    device: bytes
    revision: int
    reason: str
    sender: bytes
    told_device: bytes | None
    at: int

    def is_for(self, device: bytes) -> bool:
        """Whether this device of the sender is told."""
        return device != self.device and self.told_device in (None, device)


async def add_envelopes(
    pool: Pool,
    user: bytes,
    device: bytes,
    conversation: bytes,
    seq: int,
    revision: int,
    envelopes: Sequence[Envelope],
) -> MessageChange:
    """Give devices further envelopes for a message that this device has written; they take the place of those before.

    :param revision: of the message. Repeating it with the same envelopes changes nothing.
    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    :raises NotTheSender: if another device has written it.
    :raises MessageDeleted: if it was deleted, for everyone or for this user.
    :raises RevisionConflict: if it has another revision.
    :raises UnlistedDevices: if envelopes are for devices that are not of the conversation's device set.
    :raises TooManyParts: if it has as many parts of envelopes as it may.
    """
    packed = pack(envelopes)
    assert packed is not None
    parameters: dict[str, Any] = {
        "user": uuid(user),
        "device": uuid(device),
        "conversation": uuid(conversation),
        "seq": seq,
        "revision": revision,
        "envelopes": packed.body,
        "envelope_devices": uuids(packed.devices),
        "envelope_ends": packed.ends,
        "envelope_parts": MAX_ENVELOPE_PARTS,
    }
    [(outcome, participants, devices, bodies, refused_for, *columns)] = await pool.fetch(_sql.add, parameters)
    if outcome == "unlisted":
        raise UnlistedDevices(refused_for)
    if outcome not in ("added", "again"):
        raise _REFUSED[outcome]
    message = message_of(conversation, *columns)
    table = None if devices is None else dict(zip(devices, bodies, strict=True))
    return MessageChange(message, participants or [], outcome == "added", envelopes=table)


async def report(
    pool: Pool, user: bytes, device: bytes, conversation: bytes, seq: int, revision: int, reason: str
) -> bool:
    """Note that a device cannot decrypt a message, so that the device which wrote it is told. Returns whether that is
    new: repeating it changes nothing, until the device has got an envelope.

    :param reason: one of `protocol.undecryptable.REASONS`.
    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    :raises MessageDeleted: if it was deleted, for everyone or for this user.
    :raises RevisionConflict: if it has another revision.
    :raises OwnMessage: if this device wrote it.
    :raises NoIdentity: if the device has no identity.
    :raises QuotaExceeded: if the device has reported this message, or others, too often.
    """
    parameters: dict[str, Any] = {
        "user": uuid(user),
        "device": uuid(device),
        "conversation": uuid(conversation),
        "seq": seq,
        "revision": revision,
        "reason": reason,
        "most": MAX_REPORTS,
        "most_open": MAX_OPEN_REPORTS,
        "days": REPORT_DAYS,
    }
    [(outcome,)] = await pool.fetch(_sql.report, parameters)
    match outcome:
        case "noted" | "again":
            return bool(outcome == "noted")
        case "often":
            raise QuotaExceeded(REPORTS_PER_MESSAGE.name, REPORTS_PER_MESSAGE.value)
        case "many":
            raise QuotaExceeded(OPEN_REPORTS_PER_DEVICE.name, OPEN_REPORTS_PER_DEVICE.value)
        case _:
            raise _REFUSED[outcome]


async def reported_since(pool: Pool, *, ago_s: float) -> list[UndecryptableReport]:
    """What was reported in the last `ago_s` seconds, by Postgres' clock, and is not healed."""
    return [UndecryptableReport(*row) for row in await pool.fetch(_sql.reported_since, {"ago_s": ago_s})]


async def told_reports(pool: Pool, user: bytes, device: bytes) -> list[UndecryptableReport]:
    """What a device of a user is told with its welcome: messages that it is to heal, at most `limits.MAX_TOLD_REPORTS`.
    Users who have reported take turns, each with the latest report first."""
    parameters = {"user": uuid(user), "device": uuid(device), "days": REPORT_DAYS, "limit": MAX_TOLD_REPORTS}
    return [UndecryptableReport(*row) for row in await pool.fetch(_sql.told_reports, parameters)]


async def forget_reports(pool: Pool, *, limit: int) -> int:
    """Delete reports that are older than `REPORT_DAYS`; return how many."""
    [(gone,)] = await pool.fetch(_sql.forget, {"days": REPORT_DAYS, "limit": limit})
    return int(gone)
