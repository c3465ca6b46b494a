"""The devices of users, as this device knows them: identities, changes, safety numbers (SPEC 19.4). Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256, sha512
from typing import Final

from msgspec.structs import replace

from client.e2ee.own_keys import published_identity
from client.e2ee.ratchets import Ratchets
from client.e2ee.records import KeyChange, OwnDevice, PeerDevice, Verified
from client.e2ee.vault import Transaction
from client.e2ee.wire import DeviceIdentity, Malformed, identity_of, signed_identity
from client.known_devices import KnownIdentity, event_of, is_older
from protocol.frames import ListedDevice

DIGITS: Final = 30
"""The digits of one user; a safety number has those of two users."""

ROUNDS: Final = 5200
"""Rounds of SHA-512: a search for keys with the same digits costs that much more (libsignal, fingerprint.rs)."""


def checked_identity(ratchets: Ratchets, user: bytes, device: bytes, data: bytes) -> DeviceIdentity:
    """The keys of a device, signed by it for this user.

    :raises Malformed: if they are of another format, or are not signed.
    """
    identity = identity_of(data)
    signed = signed_identity(user, device, identity.curve_key, identity.signing_key)
    if not ratchets.is_signed(identity.signing_key, signed, identity.signature):
        raise Malformed("an identity that its device has not signed for this user")
    return identity


def take_listed(
    tx: Transaction, ratchets: Ratchets, own: OwnDevice, users: Iterable[bytes], listed: Sequence[ListedDevice]
) -> None:
    """Take all devices of these users, as the server lists them; notes what has changed of users who were known.

    Devices that do not use this encryption are left out.
    """
    for user in users:
        known = {peer.device: peer for peer in tx.all(PeerDevice, of=user)}
        told = {each.device: each for each in listed if each.user == user and _is_peer(ratchets, own, each)}
        for device, each in sorted(told.items()):
            change = _take(tx, known.get(device), each)
            if change is not None and known:
                note(tx, change)
        for device in sorted(known.keys() - told.keys()):
            if not known[device].is_gone:
                tx.put(replace(known[device], is_gone=True), device, of=user)
                note(tx, KeyChange("gone", user, device))


def note(tx: Transaction, change: KeyChange) -> None:
    """The user has yet to hear of a change."""
    tx.put(change, _name_of(change))


def have_told(tx: Transaction, changes: Iterable[KeyChange]) -> None:
    """The user has heard of these changes."""
    for change in changes:
        tx.drop(KeyChange, _name_of(change))


def _name_of(change: KeyChange) -> bytes:
    return change.event.encode() + change.user + change.device


def _is_peer(ratchets: Ratchets, own: OwnDevice, each: ListedDevice) -> bool:
    if each.device == own.device:
        return False
    try:
        checked_identity(ratchets, each.user, each.device, each.identity)
    except Malformed:
        return False
    return True


def _take(tx: Transaction, known: PeerDevice | None, told: ListedDevice) -> KeyChange | None:
    held = None if known is None else KnownIdentity(known.identity, known.revision, known.is_gone)
    if is_older(held, told):
        return None
    peer = PeerDevice(told.user, told.device, told.identity, told.identity_revision)
    if peer != known:
        tx.put(peer, told.device, of=told.user)
    event = event_of(held, told)
    return None if event is None else KeyChange(event, told.user, told.device)


def take_sender(tx: Transaction, ratchets: Ratchets, user: bytes, device: bytes, data: bytes) -> DeviceIdentity:
    """The keys of a device that has sent an envelope. One that no list has named yet is new.

    :raises Malformed: if the device is known with other keys.
    """
    identity = checked_identity(ratchets, user, device, data)
    known = tx.get(PeerDevice, device, of=user)
    if known is not None:
        if known.identity != data:
            raise Malformed("an envelope from other keys than those of its device")
        return identity
    if tx.all(PeerDevice, of=user):
        note(tx, KeyChange("new", user, device))
    tx.put(PeerDevice(user, device, data, 0), device, of=user)
    return identity


def mark_of(identity: bytes) -> bytes:
    """A short form of an identity, to see whether it is still the same."""
    return sha256(identity).digest()[:16]


def safety_number(tx: Transaction, ratchets: Ratchets, own: OwnDevice, user: bytes) -> str:
    """The number that both users see, if both see the same devices: 60 digits."""
    mine = [(own.device, published_identity(own, ratchets)), *_identities(tx, own.user)]
    return "".join(sorted((_digits(own.user, mine), _digits(user, _identities(tx, user)))))


def verify(tx: Transaction, user: bytes, number: str) -> None:
    """The users have compared this number."""
    tx.put(Verified(number), user)


def is_verified(tx: Transaction, user: bytes, number: str) -> bool | None:
    """Whether the users have compared the present number; None if they have never compared any."""
    verified = tx.get(Verified, user)
    return None if verified is None else verified.digits == number


def _identities(tx: Transaction, user: bytes) -> list[tuple[bytes, bytes]]:
    return [(peer.device, peer.identity) for peer in tx.all(PeerDevice, of=user) if not peer.is_gone]


def _digits(user: bytes, devices: list[tuple[bytes, bytes]]) -> str:
    data = b"alo-shield safety number 1\0" + user
    for device, identity in sorted(devices):
        data += device + identity
    digest = sha512(data).digest()
    for _ in range(ROUNDS):
        digest = sha512(digest + user).digest()
    groups = (int.from_bytes(digest[start : start + 5], "big") % 100_000 for start in range(0, DIGITS, 5))
    return "".join(f"{group:05}" for group in groups)
