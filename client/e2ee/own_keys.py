"""This device's own keys: its identity, and the keys with which others begin sessions (`protocol/SPEC.md`, 19.5 to
19.9). Sans-IO."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from client.e2ee.ratchets import Ratchets
from client.e2ee.records import OwnDevice, OwnKey, OwnKeys
from client.e2ee.vault import Transaction
from client.e2ee.wire import KIND, DeviceIdentity, signed_identity, signed_key
from protocol.frames import HeldKeys, OneTimeKey
from protocol.limits import FEW_KEYS

POOL: Final = 50
"""One-time keys at the server after an upload: as many as the library makes at once."""

LAST_RESORT_S: Final = 3600.0
"""A last-resort key that was handed out is replaced, but not more often than this (SPEC 19.9)."""


class KeyUpload(Struct, frozen=True):
    """Arguments of `put_keys`."""

    identity: bytes
    one_time_keys: list[OneTimeKey]
    last_resort_keys: list[OneTimeKey]
    is_anew: bool
    key_history: bytes


class _Pool(Struct, frozen=True):
    """What the server says of the pool (`protocol.replies.KeyPool`)."""

    kind: str = KIND
    count: int = 0
    first: int = 0
    highest: int = 0
    digest: bytes | None = None
    last_resort: int = 0
    is_given: bool = False


def make_device(tx: Transaction, ratchets: Ratchets, user: bytes, device: bytes, now_us: int) -> OwnDevice:
    """This device with its private keys, which are made when it is asked for first."""
    own = tx.get(OwnDevice)
    if own is None:
        own = OwnDevice(user, device, ratchets.new_account(), now_us)
        tx.put(own)
    return own


def published_identity(own: OwnDevice, ratchets: Ratchets) -> bytes:
    """What this device publishes; the same bytes each time."""
    curve_key, signing_key = ratchets.public_keys(own.account)
    signature = ratchets.sign(own.account, signed_identity(own.user, own.device, curve_key, signing_key))
    return DeviceIdentity(curve_key, signing_key, signature).encode()


def next_upload(tx: Transaction, ratchets: Ratchets, own: OwnDevice, held: HeldKeys, now: float) -> KeyUpload | None:
    """The upload that is due; None if the server holds enough. New keys are stored here, before they leave.

    An upload that was not answered comes again as it was: the server skips what it has.

    :param held: what the server says that it holds.
    :param now: in seconds since 1970.
    """
    keys = tx.get(OwnKeys) or OwnKeys()
    pool = next((_Pool(*told) for told in held.pools if told[0] == KIND), _Pool())
    # In another history the server may hand out again what it has forgotten: keys from before never go there.
    pending = keys.pending if keys.history == held.key_history else []
    at_server = [each for each in keys.uploaded + pending if pool.count and pool.first <= each.number <= pool.highest]
    pending = [each for each in pending if each.number > pool.highest]
    is_foreign = pool.digest not in (None, _digest(at_server, _held_last_resort(keys, pool)))
    if is_foreign:
        at_server, pending = [], []
    number = max(keys.next_number, pool.highest + 1)
    if (few := len(at_server) + len(pending)) < FEW_KEYS:
        account, made = ratchets.add_one_time_keys(own.account, POOL - few)
        own = replace(own, account=account)
        pending = pending + [_signed(ratchets, own, number + step, key, False) for step, key in enumerate(made)]
        number += len(made)
    last, last_at = keys.last_resort, keys.last_resort_at
    if last is None or last.number < pool.last_resort or (pool.is_given and now - last_at >= LAST_RESORT_S):
        account, key = ratchets.add_last_resort_key(own.account)
        own = replace(own, account=account)
        after = max(pool.last_resort, 0 if last is None else last.number)
        last, last_at = _signed(ratchets, own, after + 1, key, True), now
    tx.put(own)
    tx.put(OwnKeys(number, held.key_history, pending, at_server, last, last_at))
    identity = published_identity(own, ratchets)
    is_last_due = last.number != pool.last_resort
    if not pending and not is_last_due and held.identity == identity:
        return None
    one_time_keys = [(KIND, each.number, each.key) for each in pending]
    last_resort_keys = [(KIND, last.number, last.key)] if is_last_due else []
    return KeyUpload(identity, one_time_keys, last_resort_keys, is_foreign, held.key_history)


def _held_last_resort(keys: OwnKeys, pool: _Pool) -> OwnKey | None:
    """The last-resort key at the server, as this device knows it."""
    return keys.last_resort if keys.last_resort and keys.last_resort.number == pool.last_resort else None


def _digest(at_server: list[OwnKey], last_resort: OwnKey | None) -> bytes:
    held = [*at_server, last_resort] if last_resort else at_server
    return sha256(b"".join(key.number.to_bytes(8, "big") + sha256(key.key).digest() for key in held)).digest()


def _signed(ratchets: Ratchets, own: OwnDevice, number: int, key: bytes, is_last_resort: bool) -> OwnKey:
    signed = signed_key(own.user, own.device, number, key, is_last_resort=is_last_resort)
    return OwnKey(number, key + ratchets.sign(own.account, signed))
