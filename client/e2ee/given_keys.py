"""The keys of this device's own ratchets, as other devices got them, so that those may have them again. Sans-IO: each
call is part of one transaction of the vault.

The server keeps envelopes for 30 days (SPEC 19.14), and messages for longer. A device that was away for longer than
that, or has lost a session, asks for the key of a message. It is given what it was given before, and no more: the key
from the same content on, while it is in the device set with the same identity.
"""

from __future__ import annotations

from client.e2ee.own_keys import published_identity
from client.e2ee.ratchets import Ratchets
from client.e2ee.records import DeviceSet, GivenKey, OwnDevice
from client.e2ee.vault import Transaction
from client.e2ee.wire import KeyShare, SealedContent, decode
from client.e2ee.writing import KeyMessage, envelope_for
from protocol.frames import Message


def note_given(tx: Transaction, conversation: bytes, message: KeyMessage) -> None:
    """The server has accepted a key message."""
    for recipient in message.recipients:
        name = _name(recipient.device, message.ratchet)
        given = tx.get(GivenKey, name, of=conversation)
        if given is None or given.recipient != recipient:
            tx.put(GivenKey(recipient, message.key), name, of=conversation)


def given_key(tx: Transaction, message: Message, device: bytes) -> GivenKey | None:
    """The key of a message of this device, as the device with this id got it; None if it has not, or is no longer in
    the conversation's device set with the same identity.

    :raises Malformed: if the message is not one of this encryption.
    """
    ratchet = decode(message.content, SealedContent).ratchet
    given = tx.get(GivenKey, _name(device, ratchet), of=message.conversation)
    held = tx.get(DeviceSet, message.conversation)
    is_there = given is not None and held is not None and given.recipient in held.recipients
    return given if is_there else None


def give_again(tx: Transaction, ratchets: Ratchets, own: OwnDevice, message: Message, device: bytes) -> bytes | None:
    """An envelope of a message of this device, for a device that lacks the key; None if there is no `given_key`, or no
    session with it."""
    given = given_key(tx, message, device)
    if given is None:
        return None
    share = KeyShare(message.conversation, own.user, own.device, device, message.temp_id or b"", given.key)
    return envelope_for(tx, ratchets, published_identity(own, ratchets), given.recipient, share)


def _name(device: bytes, ratchet: str) -> bytes:
    return device + ratchet.encode()
