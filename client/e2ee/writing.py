"""From plaintexts to contents, and the devices that lack the key. Sans-IO: each call is part of one transaction.

A *sender's ratchet* (Megolm) encrypts the contents of a conversation, once for all devices. A quiet *key message*
before them brings its key to the devices that lack it, in an envelope for each. A new ratchet begins when a device has
left the set or has other keys, and after `MOST_CONTENTS` or `MOST_AGE_S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from client.e2ee.known import mark_of
from client.e2ee.own_keys import published_identity
from client.e2ee.ratchets import CannotDecrypt, Ratchets
from client.e2ee.reading import reader_name
from client.e2ee.records import (
    MAX_SESSIONS,
    DeviceSet,
    HasKey,
    OlmSessions,
    OwnDevice,
    PeerDevice,
    Reader,
    Recipient,
    SenderRatchet,
)
from client.e2ee.vault import Transaction
from client.e2ee.wire import (
    KEY_BYTES,
    KIND,
    Envelope,
    KeyContent,
    KeyShare,
    Sealed,
    SealedContent,
    encode,
    identity_of,
    pad,
    signed_key,
)
from protocol.frames import ListedDevice

VERSION: Final = 1

MOST_CONTENTS: Final = 100
"""By one ratchet, as Matrix has it: a thief of its key reads no more."""

MOST_AGE_S: Final = 7 * 86400.0
"""The age when a ratchet ends. The server keeps envelopes for 30 days (`limits.ENVELOPE_DAYS`): a device that was
away for less finds each key. One that was away for longer finds those of contents of the last 23 days
(`client.e2ee.given_keys`)."""

ENVELOPES: Final = 128
"""In one key message: of about 800 bytes each, half of what a send may have."""


class KeyMessage(Struct, frozen=True):
    """A message with the key of a ratchet.

    :ivar envelopes: (device, envelope).
    :ivar recipients: the devices that have the key once it is accepted.
    :ivar key: of that ratchet.
    """

    content: bytes
    envelopes: list[tuple[bytes, bytes]]
    ratchet: str
    recipients: list[Recipient]
    key: bytes


def take_set(
    tx: Transaction, conversation: bytes, version: int, users: Sequence[bytes], listed: Sequence[ListedDevice]
) -> None:
    """These are all devices of a conversation as of this version, after `client.e2ee.known.take_listed`."""
    told = {each.device for each in listed}
    recipients = [recipient for user in users for recipient in _recipients_of(tx, user) if recipient.device in told]
    tx.put(DeviceSet(version, recipients), conversation)


def take_difference(
    tx: Transaction, conversation: bytes, version: int, users: Sequence[bytes], listed: Sequence[ListedDevice]
) -> bool:
    """These are the devices of the users who have changed since the version that is held, after
    `client.e2ee.known.take_listed`; returns whether that tells the present set.

    It does not tell whether a user has left who has the same devices as before: then the caller asks for all.
    """
    held = tx.get(DeviceSet, conversation)
    if held is None:
        return False
    told = {each.device for each in listed}
    recipients = [recipient for recipient in held.recipients if recipient.user not in users]
    for user in users:
        before = [recipient for recipient in held.recipients if recipient.user == user]
        now = [recipient for recipient in _recipients_of(tx, user) if recipient.device in told]
        if sorted(before, key=_device_of) == sorted(now, key=_device_of):
            return False
        recipients += now
    tx.put(DeviceSet(version, recipients), conversation)
    return True


def _device_of(recipient: Recipient) -> bytes:
    return recipient.device


def _recipients_of(tx: Transaction, user: bytes) -> list[Recipient]:
    return [
        Recipient(user, peer.device, mark_of(peer.identity)) for peer in tx.all(PeerDevice, of=user) if not peer.is_gone
    ]


def lacking(tx: Transaction, conversation: bytes, now: float, shared_since: float) -> list[Recipient]:
    """The devices of the set that lack the key, and those of all if another ratchet is due.

    :param now: in seconds since 1970.
    :param shared_since: keys that came to a device before this time do not count.
    """
    recipients = _set_of(tx, conversation).recipients
    sender = _present_sender(tx, conversation, now)
    if sender is None:
        return recipients
    have = {has.device for has in sender.has_key if has.at >= shared_since}
    return [recipient for recipient in recipients if recipient.device not in have]


def _set_of(tx: Transaction, conversation: bytes) -> DeviceSet:
    held = tx.get(DeviceSet, conversation)
    assert held is not None, "the caller has asked for the set"
    return held


def _present_sender(tx: Transaction, conversation: bytes, now: float) -> SenderRatchet | None:
    """The ratchet that encrypts the next content; None if another one is due."""
    sender = tx.get(SenderRatchet, conversation)
    if sender is None or sender.count >= MOST_CONTENTS or now - sender.made_at > MOST_AGE_S:
        return None
    present = {(recipient.device, recipient.mark) for recipient in _set_of(tx, conversation).recipients}
    return sender if all((has.device, has.mark) in present for has in sender.has_key) else None


def without_session(tx: Transaction, recipients: Sequence[Recipient]) -> list[bytes]:
    """The users of those devices with which there is no session, or none that works."""
    return sorted({recipient.user for recipient in recipients if _sessions(tx, recipient) is None})


def _sessions(tx: Transaction, recipient: Recipient) -> OlmSessions | None:
    held = tx.get(OlmSessions, recipient.device)
    return held if held is not None and mark_of(held.identity) == recipient.mark and not held.is_stale else None


def begin_sessions(tx: Transaction, ratchets: Ratchets, own: OwnDevice, listed: Sequence[ListedDevice]) -> None:
    """Begin sessions with the devices whose keys were claimed, and with which there is none that works."""
    for each in listed:
        peer = tx.get(PeerDevice, each.device, of=each.user)
        if peer is None or peer.identity != each.identity:
            continue
        if _sessions(tx, Recipient(each.user, each.device, mark_of(each.identity))) is not None:
            continue
        key = _claimed(ratchets, each)
        if key is None:
            continue
        try:
            state = ratchets.begin(own.account, identity_of(each.identity).curve_key, key)
        except CannotDecrypt:
            continue
        held = tx.get(OlmSessions, each.device)
        former = held.sessions if held is not None and held.identity == each.identity else []
        tx.put(OlmSessions(each.identity, [state, *former][:MAX_SESSIONS]), each.device)


def _claimed(ratchets: Ratchets, each: ListedDevice) -> bytes | None:
    """The key of a device that was claimed, if its device has signed it."""
    signing_key = identity_of(each.identity).signing_key
    for keys, is_last_resort in ((each.one_time_keys, False), (each.last_resort_keys, True)):
        for kind, number, data in keys or ():
            key, signature = data[:KEY_BYTES], data[KEY_BYTES:]
            signed = signed_key(each.user, each.device, number, key, is_last_resort=is_last_resort)
            if kind == KIND and ratchets.is_signed(signing_key, signed, signature):
                return key
    return None


def share_key(
    tx: Transaction,
    ratchets: Ratchets,
    own: OwnDevice,
    conversation: bytes,
    recipients: Sequence[Recipient],
    temp_id: bytes,
    now: float,
) -> KeyMessage | None:
    """A key message for some of these devices, with the key of the contents from the next one on; None if there is no
    session with any of them."""
    sender = _present_sender(tx, conversation, now) or _new_sender(tx, ratchets, own, conversation, now)
    key, identity = ratchets.sender_key(sender.state), published_identity(own, ratchets)
    envelopes: list[tuple[bytes, bytes]] = []
    reached: list[Recipient] = []
    for recipient in recipients:
        share = KeyShare(conversation, own.user, own.device, recipient.device, temp_id, key)
        envelope = envelope_for(tx, ratchets, identity, recipient, share)
        if envelope is None:
            continue
        envelopes.append((recipient.device, envelope))
        reached.append(recipient)
        if len(reached) == ENVELOPES:
            break
    if not reached:
        return None
    return KeyMessage(encode(KeyContent(VERSION, sender.ratchet)), envelopes, sender.ratchet, reached, key)


def envelope_for(
    tx: Transaction, ratchets: Ratchets, identity: bytes, recipient: Recipient, share: KeyShare
) -> bytes | None:
    """A key, encrypted for a device; None if there is no session with it.

    :param identity: that this device publishes.
    """
    sessions = _sessions(tx, recipient)
    if sessions is None:
        return None
    state, (kind, body) = ratchets.encrypt(sessions.sessions[0], encode(share))
    tx.put(replace(sessions, sessions=[state, *sessions.sessions[1:]]), recipient.device)
    return encode(Envelope(VERSION, identity, kind, body))


def _new_sender(tx: Transaction, ratchets: Ratchets, own: OwnDevice, conversation: bytes, now: float) -> SenderRatchet:
    """Another ratchet, of which this device is a reader, too: so it reads what it has written."""
    state, ratchet = ratchets.new_sender()
    sender = SenderRatchet(ratchet, state, now, 0)
    tx.put(sender, conversation)
    reader, _, first_index = ratchets.new_reader(ratchets.sender_key(state))
    tx.put(Reader(conversation, own.user, reader, first_index), reader_name(own.device, ratchet))
    return sender


def have_shared(tx: Transaction, conversation: bytes, message: KeyMessage, at: float) -> None:
    """The server has accepted a key message.

    :param at: when it was made, in seconds since 1970.
    """
    sender = tx.get(SenderRatchet, conversation)
    if sender is None or sender.ratchet != message.ratchet:
        return
    devices = {recipient.device for recipient in message.recipients}
    others = [has for has in sender.has_key if has.device not in devices]
    has_key = others + [HasKey(recipient.device, recipient.mark, at) for recipient in message.recipients]
    tx.put(replace(sender, has_key=has_key), conversation)


def seal(
    tx: Transaction,
    ratchets: Ratchets,
    own: OwnDevice,
    content: Sealed,
    now: float,
) -> bytes:
    """The content of a message, encrypted by the next key of the ratchet. The vault has the key after that before the
    content leaves.

    :param content: the plaintext, of this device.
    """
    conversation = content.conversation
    sender = _present_sender(tx, conversation, now) or _new_sender(tx, ratchets, own, conversation, now)
    state, ciphertext = ratchets.encrypt_for_readers(sender.state, pad(encode(content)))
    tx.put(replace(sender, state=state, count=sender.count + 1), conversation)
    return encode(SealedContent(VERSION, sender.ratchet, ciphertext))
