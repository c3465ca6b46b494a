"""New users, devices, and tokens."""

from __future__ import annotations

from msgspec import Struct

from server.http.encoding import IDENT, Encoding, Ident
from store.devices import Device


class RegisteredAnswer(Struct, frozen=True):
    """A new user."""

    user: Ident
    username: str


class LoggedInAnswer(Struct, frozen=True):
    """A new device of a user, with its token, which no later answer shows.

    :ivar expires: of the token, in microseconds since 1970-01-01T00:00Z.
    """

    user: Ident
    device: Ident
    token: str
    expires: int


class TokenAnswer(Struct, frozen=True):
    """A new token for this device.

    :ivar expires: microseconds since 1970-01-01T00:00Z.
    """

    token: str
    expires: int


class ConfirmedAnswer(Struct, frozen=True):
    """The user has shown the password on this device.

    :ivar expires: until when this device may do what needs that, in microseconds since 1970-01-01T00:00Z.
    """

    expires: int


class DeviceAnswer(Struct, frozen=True):
    """A device that is logged in.

    :ivar created: microseconds since 1970-01-01T00:00Z.
    :ivar expires: of its token, in microseconds since 1970-01-01T00:00Z.
    """

    device: Ident
    name: str
    created: int
    expires: int


class DevicesAnswer(Struct, frozen=True):
    """A page of your devices that are logged in, the newest first.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    devices: list[DeviceAnswer]
    cursor: str | None


def device_body(device: Device, encoding: Encoding) -> DeviceAnswer:
    return DeviceAnswer(IDENT[encoding](device.device), device.name, device.created, device.expires)
