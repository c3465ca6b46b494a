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
    username: str
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
    """The user has shown on this device the password, or a token of a new login at the external issuer.

    :ivar expires: until when this device may do what needs that, in microseconds since 1970-01-01T00:00Z.
    """

    expires: int


class DeviceAnswer(Struct, frozen=True):
    """A device that is logged in.

    :ivar created: microseconds since 1970-01-01T00:00Z.
    :ivar expires: of its token, in microseconds since 1970-01-01T00:00Z.
    :ivar last_used: when it connected or sent a request last, in microseconds since 1970-01-01T00:00Z; it may have been
        up to an hour later.
    :ivar client: the program's name and version, as it has told them; null: it has told none.
    :ivar is_this: it is the device that asks.
    """

    device: Ident
    name: str
    created: int
    expires: int
    last_used: int
    client: str | None
    is_this: bool


class DevicesAnswer(Struct, frozen=True):
    """A page of your devices that are logged in, the newest first.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    devices: list[DeviceAnswer]
    cursor: str | None


def device_body(device: Device, this: bytes, encoding: Encoding) -> DeviceAnswer:
    """
    :param this: the device that asks.
    """
    return DeviceAnswer(
        device=IDENT[encoding](device.device),
        name=device.name,
        created=device.created,
        expires=device.expires,
        last_used=device.last_used,
        client=device.client,
        is_this=device.device == this,
    )
