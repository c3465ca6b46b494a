"""The bytes that devices exchange: identities, one-time keys, envelopes and contents, in MessagePack.

| on the wire | content type | bytes |
|---|---|---|
| `identity` of a device | | version, Curve25519 key, Ed25519 key, signature over both with user and device |
| a one-time key | | Curve25519 key, signature over it with user, device and number |
| a key message: `content` | `client.e2ee.KEYS` | the name of the sender's ratchet |
| a key message: each envelope | | an Olm message that has a `KeyShare` |
| another message: `content` | `client.e2ee.SEALED` | the name of the ratchet, a Megolm message of a padded `Sealed` |

What a recipient must not take for another thing is inside the ciphertext and compared with the frame around it: the
conversation, the user and the device that wrote it, and the `temp_id` of a message or the id and revision of an edit.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from msgspec import Struct

KIND: Final = "olm"
"""The kind of the one-time keys."""

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SMALLEST_BYTES: Final = 128
STEP_BYTES: Final = 1024
"""The length of a padded plaintext is one of 128, 256, 512, 1024, 2048, 3072 and so on (SPEC 20.3)."""

_VERSION: Final = b"\x01"
_END: Final = b"\x80"
_T = TypeVar("_T", bound=Struct)


class Malformed(Exception):
    """These bytes are not of this format, or its author has not made them for this place."""


class DeviceIdentity(Struct, frozen=True):
    """The public keys of a device, signed by it for this user and device."""

    curve_key: bytes
    signing_key: bytes
    signature: bytes

    def encode(self) -> bytes:
        return _VERSION + self.curve_key + self.signing_key + self.signature


def identity_of(data: bytes) -> DeviceIdentity:
    """Read an identity; the caller checks its signature.

    :raises Malformed: if it is of another format, such as that of another program.
    """
    if len(data) != len(_VERSION) + 2 * KEY_BYTES + SIGNATURE_BYTES or data[:1] != _VERSION:
        raise Malformed("an identity of another format")
    return DeviceIdentity(data[1:33], data[33:65], data[65:])


def signed_identity(user: bytes, device: bytes, curve_key: bytes, signing_key: bytes) -> bytes:
    """The bytes that a device signs, so that its keys count for no other user and device."""
    return b"alo-shield identity 1\0" + user + device + curve_key + signing_key


def signed_key(user: bytes, device: bytes, number: int, key: bytes, *, is_last_resort: bool) -> bytes:
    """The bytes that a device signs for each one-time key."""
    return b"alo-shield one-time key 1\0" + user + device + bytes([is_last_resort]) + number.to_bytes(8, "big") + key


class Envelope(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a key message has for one device.

    :ivar identity: of the sending device: one that the server no longer lists can be read, too.
    :ivar kind: of the Olm message.
    """

    version: int
    identity: bytes
    kind: int
    body: bytes


class KeyContent(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The content of a key message, which all devices see: a device without an envelope learns which messages are not
    for it."""

    version: int
    ratchet: str


class SealedContent(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The content of any other message.

    :ivar ratchet: the name of the sender's ratchet.
    """

    version: int
    ratchet: str
    ciphertext: bytes


class KeyShare(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The plaintext of an envelope: the key of a ratchet, for one conversation and one device."""

    conversation: bytes
    user: bytes
    device: bytes
    for_device: bytes
    temp_id: bytes
    key: bytes


class Sealed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The plaintext of a content.

    :ivar temp_id: of the message; of an edit, that of the message that it edits, if this device has known it.
    :ivar edits: the id of the message that an edit is for; empty for a message as it is sent.
    :ivar revision: 0 for a message as it is sent.
    :ivar body: in the format that `content_type` names, such as `client.e2ee.contents.CONTENT`.
    """

    conversation: bytes
    user: bytes
    device: bytes
    temp_id: bytes
    edits: bytes
    revision: int
    content_type: str
    reply_to: int
    is_quiet: bool
    body: bytes


def encode(value: Struct) -> bytes:
    return msgspec.msgpack.encode(value)


def decode(data: bytes, type_: type[_T]) -> _T:
    """
    :raises Malformed: if it is not of this type.
    """
    try:
        return msgspec.msgpack.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"bytes of another format: {error}") from None


def pad(plaintext: bytes) -> bytes:
    """Append a mark and zeros, up to the next length that `padded_length` gives."""
    marked = plaintext + _END
    return marked.ljust(padded_length(len(marked)), b"\0")


def unpad(padded: bytes) -> bytes:
    """
    :raises Malformed: if there is no mark.
    """
    stripped = padded.rstrip(b"\0")
    if not stripped.endswith(_END):
        raise Malformed("a plaintext without the mark at its end")
    return stripped[:-1]


def padded_length(length: int) -> int:
    """The next length of a padded plaintext."""
    if length > STEP_BYTES:
        return -(-length // STEP_BYTES) * STEP_BYTES
    return max(SMALLEST_BYTES, 1 << (length - 1).bit_length())
