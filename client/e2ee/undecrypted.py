"""Messages that this device cannot decrypt, and which of them it reports; how often it answers reports of others.
Sans-IO: each call is part of one transaction of the vault.

One key opens many messages, so of those that wait for one key the first alone is reported. It is reported again only
after an envelope has come that did not help, or once the server has forgotten the report.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from client.e2ee.reading import SLACK_US, UnreadableMessage, distrust_sessions, reader_name
from client.e2ee.records import AnsweredReport, NotForUs, OwnDevice, Reader, Undecrypted
from client.e2ee.vault import Transaction
from client.e2ee.wire import Malformed, SealedContent, decode
from protocol.frames import Message
from protocol.limits import MAX_REPORTS, REPORT_DAYS

REASONS: Final = {"no_key": "no_content_key", "broken": "damaged"}
"""Why a message cannot be read -> the reason of a report (`protocol.undecryptable.REASONS`)."""

AGAIN_S: Final = REPORT_DAYS * 86400.0


def note(tx: Transaction, own: OwnDevice, message: Message, is_unreadable: UnreadableMessage | None) -> bool:
    """A message was read, or could not be; returns whether there is more to report than before.

    Messages from before this device was made, and those that no other device has written, are never reported.
    """
    is_ours = message.device not in (None, own.device) and message.created >= own.since - SLACK_US
    held = tx.get(Undecrypted, message.message)
    if is_unreadable is None or is_unreadable.reason not in REASONS or not is_ours:
        if held is not None:
            tx.drop(Undecrypted, message.message)
        return False
    envelope = b"" if message.envelope is None else sha256(message.envelope).digest()
    revision, reason = message.revision or 0, REASONS[is_unreadable.reason]
    if held is not None and (held.revision, held.reason) == (revision, reason) and envelope in (b"", held.envelope):
        return False
    tx.put(
        Undecrypted(
            message.conversation, message.message, message.seq, revision, reason, _ratchet_of(message), envelope
        ),
        message.message,
    )
    return True


def _ratchet_of(message: Message) -> bytes:
    try:
        return reader_name(message.device or b"", decode(message.content, SealedContent).ratchet)
    except Malformed:
        return message.message


def due(tx: Transaction, now: float) -> list[Undecrypted]:
    """The messages to report: the first of each key that is missing, unless another one of that key is reported.

    :param now: in seconds since 1970.
    """
    first: dict[bytes, Undecrypted] = {}
    waiting: set[bytes] = set()
    for each in sorted(tx.all(Undecrypted), key=lambda each: each.seq):
        waits_for_key = each.reason == REASONS["no_key"]
        if waits_for_key and (tx.get(Reader, each.ratchet) or tx.get(NotForUs, each.ratchet)) is not None:
            # The key has come since, or came to other devices only.
            tx.drop(Undecrypted, each.message)
            continue
        key = each.ratchet if waits_for_key else each.message
        if now - each.reported_at < AGAIN_S:
            waiting.add(key)
        else:
            first.setdefault(key, each)
    return [each for key, each in first.items() if key not in waiting]


def have_reported(tx: Transaction, report: Undecrypted, now: float) -> None:
    """The server has taken a report, or refuses it for good."""
    held = tx.get(Undecrypted, report.message)
    if held == report:
        tx.put(replace(report, reported_at=now), report.message)


def forget(tx: Transaction, present: set[bytes]) -> None:
    """The user takes part in these conversations alone."""
    for each in tx.all(Undecrypted):
        if each.conversation not in present:
            tx.drop(Undecrypted, each.message)


def count_answer(tx: Transaction, message: bytes, device: bytes, now: float) -> bool:
    """Count an answer to a device that cannot decrypt a message; false if it has had as many as a device may.

    The second answer goes by another session: the first one did not help.
    """
    name = message + device
    held = tx.get(AnsweredReport, name)
    times = 0 if held is None else held.times
    if times >= MAX_REPORTS:
        return False
    if times:
        distrust_sessions(tx, device, now)
    tx.put(AnsweredReport(times + 1), name)
    return True
