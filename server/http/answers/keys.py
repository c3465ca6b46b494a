"""What devices have published, for their users and for others."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protocol.frames import ListedDevice, OneTimeKey
from server.http.encoding import IDENT, Encoding, Ident
from store.keys import DeviceKeys


class PoolAnswer(Struct, frozen=True):
    """The keys of a kind that the server holds of this device.

    :ivar count: of the one-time keys that are left.
    :ivar first: the first number of these; 0: there is none.
    :ivar highest: the greatest number that was ever stored.
    :ivar digest: of the keys (SHA-256; `protocol/SPEC.md`, 19.7).
    :ivar last_resort: the number of the last-resort key; 0: there is none.
    :ivar is_given: the last-resort key was handed out.
    """

    kind: str
    count: int
    first: int
    highest: int
    digest: bytes
    last_resort: int
    is_given: bool


class HeldKeysAnswer(Struct, frozen=True):
    """What the server holds of this device.

    :ivar identity: null: the device has published none.
    :ivar identity_revision: how often it was another one.
    :ivar key_history: changes when the server may have forgotten which keys it has handed out.
    """

    identity: bytes | None
    identity_revision: int
    key_history: bytes
    pools: list[PoolAnswer]


class OneTimeKeyAnswer(Struct, frozen=True):
    """A public key of a device."""

    kind: str
    number: int
    key: bytes


class ListedDeviceAnswer(Struct, frozen=True):
    """A device of a user, for which others can encrypt.

    :ivar identity: its public, long-lived bytes.
    :ivar identity_revision: grows with each change of the identity.
    :ivar one_time_keys: those that you have claimed by this request.
    :ivar last_resort_keys: the same, of kinds without a one-time key for you.
    """

    user: Ident
    device: Ident
    identity: bytes
    identity_revision: int
    one_time_keys: list[OneTimeKeyAnswer]
    last_resort_keys: list[OneTimeKeyAnswer]


class UserDevicesAnswer(Struct, frozen=True):
    """A page of the devices of a user, in the order of their ids.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    devices: list[ListedDeviceAnswer]
    cursor: str | None


class ClaimedKeysAnswer(Struct, frozen=True):
    """Devices of users with claimed keys, in the order of their ids.

    :ivar more: there are devices with greater ids, of which nothing was claimed.
    """

    devices: list[ListedDeviceAnswer]
    more: bool


def keys_body(held: DeviceKeys) -> HeldKeysAnswer:
    pools = [PoolAnswer(*each) for each in held.pools]
    return HeldKeysAnswer(held.identity, held.identity_revision, held.history, pools)


def listed_body(device: ListedDevice, encoding: Encoding) -> ListedDeviceAnswer:
    ident = IDENT[encoding]
    return ListedDeviceAnswer(
        ident(device.user),
        ident(device.device),
        device.identity,
        device.identity_revision,
        _keys(device.one_time_keys or ()),
        _keys(device.last_resort_keys or ()),
    )


def _keys(keys: Sequence[OneTimeKey]) -> list[OneTimeKeyAnswer]:
    return [OneTimeKeyAnswer(*each) for each in keys]
