"""From envelopes and contents to plaintexts. Sans-IO: each call is part of one transaction of the vault."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from client.e2ee import KEYS, SEALED
from client.e2ee.contents import CONTENT, NotContent, Plaintext, decode_content
from client.e2ee.known import take_sender
from client.e2ee.ratchets import CannotDecrypt, OlmMessage, Ratchets, TooEarly
from client.e2ee.records import (
    MAX_SESSIONS,
    NotForUs,
    OlmSessions,
    OwnDevice,
    Plain,
    Reader,
    Shown,
    Used,
)
from client.e2ee.vault import Transaction
from client.e2ee.wire import (
    Envelope,
    KeyContent,
    KeyShare,
    Malformed,
    Sealed,
    SealedContent,
    decode,
    unpad,
)
from protocol import limits
from protocol.frames import Message

Reason: TypeAlias = Literal["before", "no_key", "broken"]
"""Why a message cannot be read: it was sent before this device was there, its key has not come, or it is not what its
sender has encrypted for this place."""


SLACK_US: Final = 600_000_000
"""The clocks of this machine and of the server may differ by this much."""

DAY_S: Final = 86400.0

STALE_S: Final = 3600.0
"""From one session that is begun because of a message that cannot be decrypted to the next one with the same device."""


class UnreadableMessage(Struct, frozen=True):
    """An encrypted message that this device cannot read."""

    reason: Reason


def take_keys(tx: Transaction, ratchets: Ratchets, own: OwnDevice, message: Message, now: float) -> None:
    """Take the key in this device's envelope of a message, or that a key message has none for it. To take it again
    changes nothing.

    A key message brings a key before its contents. A content has one if its sender gives a key again.

    :param now: in seconds since 1970.
    :raises Malformed, CannotDecrypt: if there is no key in it, though there should be; the vault stays as it was.
    """
    brings_keys = is_key_message(message)
    content = decode(message.content, KeyContent) if brings_keys else decode(message.content, SealedContent)
    if message.device is None or message.device == own.device:
        return
    name = reader_name(message.device, content.ratchet)
    if tx.get(Reader, name) is not None:
        return
    if message.envelope is None:
        if brings_keys and message.has_envelopes and not _may_have_gone(message, own, now):
            tx.put(NotForUs(message.conversation), name)
        return
    envelope = decode(message.envelope, Envelope)
    identity = take_sender(tx, ratchets, message.sender, message.device, envelope.identity)
    olm = OlmMessage(envelope.kind, envelope.body)
    plaintext = _decrypt(tx, ratchets, message.device, envelope.identity, identity.curve_key, olm)
    share = decode(plaintext, KeyShare)
    is_for_here = (share.conversation, share.user, share.device, share.for_device) == (
        message.conversation,
        message.sender,
        message.device,
        own.device,
    )
    if not is_for_here or message.temp_id not in (None, share.temp_id):
        raise Malformed("a key for another place")
    state, shared, first_index = ratchets.new_reader(share.key)
    if shared != content.ratchet:
        raise Malformed("the key of another ratchet")
    tx.put(Reader(message.conversation, message.sender, state, first_index), name)
    tx.drop(NotForUs, name)


def _may_have_gone(message: Message, own: OwnDevice, now: float) -> bool:
    """Whether there may have been an envelope for this device, which the server keeps no longer (SPEC 19.14)."""
    age_s = now - message.created / 1_000_000
    return message.created > own.since - SLACK_US and age_s > limits.ENVELOPE_DAYS * DAY_S - SLACK_US / 1_000_000


def _decrypt(
    tx: Transaction, ratchets: Ratchets, device: bytes, identity: bytes, curve_key: bytes, olm: OlmMessage
) -> bytes:
    """Decrypt by one of the sessions with a device, or by one that it begins; that becomes the first one."""
    held = tx.get(OlmSessions, device)
    sessions = held.sessions if held is not None and held.identity == identity else []
    for number, session in enumerate(sessions):
        if olm.kind == 0 and not ratchets.has_begun(session, olm):
            continue
        try:
            state, plaintext = ratchets.decrypt(session, olm)
        except CannotDecrypt:
            continue
        others = sessions[:number] + sessions[number + 1 :]
        tx.put(OlmSessions(identity, [state, *others]), device)
        return plaintext
    if olm.kind != 0:
        raise CannotDecrypt("no session with the device decrypts this")
    own = tx.get(OwnDevice)
    assert own is not None
    account, state, plaintext = ratchets.accept(own.account, curve_key, olm)
    tx.put(replace(own, account=account))
    tx.put(OlmSessions(identity, [state, *sessions][:MAX_SESSIONS]), device)
    return plaintext


def distrust_sessions(tx: Transaction, device: bytes, now: float) -> None:
    """The other end may have lost its sessions: the next key for it begins another one, not more often than once an
    hour (SPEC 20.7).

    :param now: in seconds since 1970.
    """
    held = tx.get(OlmSessions, device)
    if held is not None and now - held.stale_at >= STALE_S:
        tx.put(replace(held, is_stale=True, stale_at=now), device)


def read(tx: Transaction, ratchets: Ratchets, message: Message) -> Plaintext | UnreadableMessage | None:
    """The plaintext of a message, decrypted or kept from before; None if the message is not encrypted."""
    if message.content_type != SEALED:
        return None
    kept = tx.get(Plain, message.message, of=message.conversation)
    if kept is not None and (kept.revision, kept.digest) == (message.revision or 0, digest_of(message.content)):
        return kept.body
    try:
        return _open(tx, ratchets, message, kept)
    except TooEarly:
        return UnreadableMessage("before")
    except (Malformed, CannotDecrypt):
        return UnreadableMessage("broken")


def digest_of(content: bytes) -> bytes:
    """The digest of the bytes that a plaintext was decrypted from."""
    return sha256(content).digest()


def _open(tx: Transaction, ratchets: Ratchets, message: Message, kept: Plain | None) -> Plaintext | UnreadableMessage:
    content = decode(message.content, SealedContent)
    if message.device is None:
        raise Malformed("the server does not know which device has written it")
    name = reader_name(message.device, content.ratchet)
    reader = tx.get(Reader, name)
    if reader is None:
        return UnreadableMessage("no_key" if tx.get(NotForUs, name) is None else "before")
    if (reader.conversation, reader.user) != (message.conversation, message.sender):
        raise Malformed("the ratchet of another conversation")
    plaintext, index = ratchets.decrypt_as_reader(reader.state, content.ciphertext)
    sealed = decode(unpad(plaintext), Sealed)
    body = _content_of(sealed)
    _check_place(sealed, body, message, kept)
    use, at = Used(message.message, sealed.revision), index.to_bytes(4, "big")
    shown = Shown(message.message)
    if tx.get(Used, at, of=name) not in (None, use) or tx.get(Shown, sealed.temp_id, of=message.sender) not in (
        None,
        shown,
    ):
        raise Malformed("a copy of another message")
    tx.put(use, at, of=name)
    if sealed.temp_id:
        tx.put(shown, sealed.temp_id, of=message.sender)
    plain = Plain(message.message, message.seq, sealed.revision, digest_of(message.content), sealed.temp_id, body)
    tx.put(plain, message.message, of=message.conversation)
    return body


def _content_of(sealed: Sealed) -> Plaintext:
    if sealed.content_type != CONTENT:
        raise Malformed(f"a content of the type {sealed.content_type}")
    try:
        return decode_content(sealed.body)
    except NotContent as error:
        raise Malformed(str(error)) from None


def _check_place(sealed: Sealed, body: Plaintext, message: Message, kept: Plain | None) -> None:
    """
    :raises Malformed: if a content was encrypted for another place than this message (SPEC 20.2).
    """
    revision = message.revision or 0
    is_here = (
        (sealed.conversation, sealed.user, sealed.device, sealed.revision)
        == (message.conversation, message.sender, message.device, revision)
        and sealed.edits == (message.message if revision else b"")
        and (sealed.reply_to, sealed.is_quiet) == (message.reply_to or 0, bool(message.is_quiet))
        and {file.attachment for file in body.files} == set(message.attachments or ())
    )
    known = {each for each in (message.temp_id, kept and kept.temp_id) if each}
    if not is_here or (known and known != {sealed.temp_id} and not (revision and not sealed.temp_id)):
        raise Malformed("a content for another place")


def reader_name(device: bytes, ratchet: str) -> bytes:
    """The name of a ratchet in the vault. No other device can take the place of its owner there."""
    return device + ratchet.encode()


def is_key_message(message: Message) -> bool:
    """Whether a message has keys alone: it is not shown."""
    return message.content_type == KEYS
