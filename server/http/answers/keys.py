"""What devices have published, for their users and for others."""

from __future__ import annotations

from msgspec import Struct

from protocol.frames import ListedDevice
from server.http.encoding import IDENT, Encoding, Ident
from store.keys import Published


class KeysAnswer(Struct, frozen=True):
    """What the server holds of this device.

    :ivar identity: null: the device has published none.
    :ivar identity_revision: how often it was another one.
    """

    identity: bytes | None
    identity_revision: int


class ListedDeviceAnswer(Struct, frozen=True):
    """A device of a user, for which others can encrypt.

    :ivar identity: its public, long-lived bytes.
    :ivar identity_revision: grows with each change of the identity.
    """

    user: Ident
    device: Ident
    identity: bytes
    identity_revision: int


class UserDevicesAnswer(Struct, frozen=True):
    """A page of the devices of a user, in the order of their ids.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    devices: list[ListedDeviceAnswer]
    cursor: str | None


def keys_body(published: Published) -> KeysAnswer:
    return KeysAnswer(published.identity, published.identity_revision)


def listed_body(device: ListedDevice, encoding: Encoding) -> ListedDeviceAnswer:
    ident = IDENT[encoding]
    return ListedDeviceAnswer(ident(device.user), ident(device.device), device.identity, device.identity_revision)
