"""The cryptography that this package needs from a library, as one interface.

A state is opaque bytes that the caller stores. Each call that moves a ratchet returns the next state: the caller stores
it before any byte of the result leaves the process, so no key of a ratchet is ever used for two plaintexts.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class CannotDecrypt(Exception):
    """The bytes are not what the sender has encrypted for this state: the state stays as it was."""


class TooEarly(CannotDecrypt):
    """The sender has encrypted it before the key that this reader has."""


class OlmMessage(NamedTuple):
    """A message of a session between two devices.

    :ivar kind: 0 if it can begin the session at the other end, 1 otherwise.
    """

    kind: int
    body: bytes


class Ratchets(Protocol):
    """Olm between two devices, Megolm from one device to many (https://gitlab.matrix.org/matrix-org/olm, docs)."""

    def new_account(self) -> bytes:
        """The private keys of a new device."""

    def public_keys(self, account: bytes) -> tuple[bytes, bytes]:
        """The Curve25519 key and the Ed25519 key of a device, 32 bytes each."""

    def sign(self, account: bytes, data: bytes) -> bytes:
        """A signature of 64 bytes by the device's Ed25519 key."""

    def is_signed(self, public_key: bytes, data: bytes, signature: bytes) -> bool:
        """Whether the owner of an Ed25519 key has signed these bytes."""

    def add_one_time_keys(self, account: bytes, count: int) -> tuple[bytes, list[bytes]]:
        """New one-time keys, 32 public bytes each."""

    def add_last_resort_key(self, account: bytes) -> tuple[bytes, bytes]:
        """A new last-resort key; the one before stays good until the next one."""

    def begin(self, account: bytes, curve_key: bytes, one_time_key: bytes) -> bytes:
        """A session to the device with these public keys.

        :raises CannotDecrypt: if they are no keys.
        """

    def accept(self, account: bytes, curve_key: bytes, message: OlmMessage) -> tuple[bytes, bytes, bytes]:
        """The session that another device has begun: account, session, plaintext. A one-time key is used up by it.

        :param curve_key: of the device that must have begun it.
        :raises CannotDecrypt: if that device has not, or the one-time key is gone.
        """

    def has_begun(self, session: bytes, message: OlmMessage) -> bool:
        """Whether this message can be one of this session, as far as the keys in it tell; only of kind 0."""

    def encrypt(self, session: bytes, plaintext: bytes) -> tuple[bytes, OlmMessage]:
        """Encrypt for the other end of a session."""

    def decrypt(self, session: bytes, message: OlmMessage) -> tuple[bytes, bytes]:
        """Decrypt from the other end of a session.

        :raises CannotDecrypt: if it is not from there, or has come before.
        """

    def new_sender(self) -> tuple[bytes, str]:
        """A sender's ratchet, and the name of it that its readers know."""

    def sender_key(self, sender: bytes) -> bytes:
        """The secret with which a reader decrypts what this ratchet encrypts from now on, and nothing before."""

    def encrypt_for_readers(self, sender: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
        """Encrypt for all who have the key of the ratchet."""

    def new_reader(self, key: bytes) -> tuple[bytes, str, int]:
        """The reader's end, the name of the ratchet, and the first index that it decrypts.

        :raises CannotDecrypt: if that is no key.
        """

    def decrypt_as_reader(self, reader: bytes, ciphertext: bytes) -> tuple[bytes, int]:
        """The plaintext and its index. The state stays as it is.

        :raises TooEarly: if it is from before the first index.
        :raises CannotDecrypt: if the sender's ratchet has not made it.
        """
