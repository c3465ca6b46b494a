"""What lies in the vault. A type has one shelf, or one for each thing that its docstring names."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from client.e2ee.contents import Plaintext
from client.known_devices import DeviceEvent

MAX_SESSIONS: Final = 5
"""With one device: both ends may begin sessions at the same time, and last-resort keys begin several."""


class OwnDevice(Struct, frozen=True, tag="own_device"):
    """This device. One.

    :ivar account: its private keys.
    :ivar since: when it has been made, in microseconds since 1970: no earlier message is for it.
    """

    user: bytes
    device: bytes
    account: bytes
    since: int


class OwnKey(Struct, frozen=True, tag="own_key"):
    """A key as it is uploaded, with its signature."""

    number: int
    key: bytes


class OwnKeys(Struct, frozen=True, tag="own_keys"):
    """The keys that this device has made for others. One.

    :ivar next_number: of the next one-time key; numbers only grow.
    :ivar history: the `key_history` that `pending` was made for.
    :ivar pending: keys whose upload has not been answered.
    :ivar uploaded: those that the server held when it was asked last.
    :ivar last_resort: the last one that was made.
    :ivar last_resort_at: when, in seconds since 1970.
    """

    next_number: int = 1
    history: bytes = b""
    pending: list[OwnKey] = []
    uploaded: list[OwnKey] = []
    last_resort: OwnKey | None = None
    last_resort_at: float = 0.0


class PeerDevice(Struct, frozen=True, tag="peer_device"):
    """A device of any user, as this device knows it. By user and device.

    :ivar identity: as the wire has it.
    :ivar is_gone: the server has listed the user's devices without it.
    """

    user: bytes
    device: bytes
    identity: bytes
    revision: int
    is_gone: bool = False


class Verified(Struct, frozen=True, tag="verified"):
    """The safety number of a user that the user of this device has compared. By user."""

    digits: str


class OlmSessions(Struct, frozen=True, tag="olm_sessions"):
    """The sessions with a device, the one that was used last first. By device.

    :ivar identity: of the device that they are with.
    :ivar is_stale: the other end seems to have lost them: the next key for it begins another one.
    :ivar stale_at: when that was seen last, in seconds since 1970.
    """

    identity: bytes
    sessions: list[bytes]
    is_stale: bool = False
    stale_at: float = 0.0


class Recipient(Struct, frozen=True, tag="recipient"):
    """A device of a device set.

    :ivar mark: of its identity (`client.e2ee.known.mark_of`).
    """

    user: bytes
    device: bytes
    mark: bytes


class DeviceSet(Struct, frozen=True, tag="device_set"):
    """The devices of a conversation that use this encryption, this one excepted. By conversation."""

    version: int
    recipients: list[Recipient]


class HasKey(Struct, frozen=True, tag="has_key"):
    """A device that has the key of a ratchet.

    :ivar at: when its last key message was accepted, in seconds since 1970.
    """

    device: bytes
    mark: bytes
    at: float


class SenderRatchet(Struct, frozen=True, tag="sender_ratchet"):
    """The ratchet by which this device writes to a conversation. By conversation.

    :ivar made_at: in seconds since 1970.
    :ivar count: how many contents it has encrypted.
    """

    ratchet: str
    state: bytes
    made_at: float
    count: int
    has_key: list[HasKey] = []


class GivenKey(Struct, frozen=True, tag="given_key"):
    """The key of a ratchet of this device as another device got it first: that device may have it again, and no other
    one. By device and ratchet, a shelf for each conversation.

    :ivar key: of the contents from that time on.
    """

    recipient: Recipient
    key: bytes


class Reader(Struct, frozen=True, tag="reader"):
    """The reader's end of a ratchet of some device. By `client.e2ee.reading.reader_name`.

    :ivar first_index: earlier contents are not for this device.
    """

    conversation: bytes
    user: bytes
    state: bytes
    first_index: int


class NotForUs(Struct, frozen=True, tag="not_for_us"):
    """A ratchet whose key came to other devices only, as far as the server can still tell. Named as a `Reader`."""

    conversation: bytes


class Undecrypted(Struct, frozen=True, tag="undecrypted"):
    """A message that this device cannot read, though it should. By the message's id.

    :ivar reason: one of `protocol.undecryptable.REASONS`.
    :ivar ratchet: the name of the ratchet whose key it needs.
    :ivar envelope: a digest of the envelope that did not help; empty if there was none.
    :ivar reported_at: when it was reported, in seconds since 1970; 0: not yet.
    """

    conversation: bytes
    message: bytes
    seq: int
    revision: int
    reason: str
    ratchet: bytes
    envelope: bytes = b""
    reported_at: float = 0.0


class AnsweredReport(Struct, frozen=True, tag="answered_report"):
    """How often a device that cannot decrypt a message of this one was given the key again. By message and device."""

    times: int


class Used(Struct, frozen=True, tag="used"):
    """The message that an index of a ratchet belongs to: the same ciphertext elsewhere is a repetition. By index, a
    shelf for each ratchet."""

    message: bytes
    revision: int


class Plain(Struct, frozen=True, tag="plain"):
    """The plaintext of a message. By the message's id, a shelf for each conversation (SPEC 20.5).

    :ivar digest: of the content that it was decrypted from.
    :ivar temp_id: of the message, if it is known.
    """

    message: bytes
    seq: int
    revision: int
    digest: bytes
    temp_id: bytes
    body: Plaintext


class Shown(Struct, frozen=True, tag="shown"):
    """The id of the message that has come with a `temp_id`: with another id it is a copy. By `temp_id`, a shelf for
    each sender."""

    message: bytes


class KeyChange(Struct, frozen=True, tag="key_change"):
    """A change of a user's devices of which the user here has yet to hear. By event, user and device.

    :ivar event: "changed": the device has other keys.
    """

    event: DeviceEvent
    user: bytes
    device: bytes


class Outgoing(Struct, frozen=True, tag="outgoing"):
    """A message that is being sent. By `temp_id`.

    :ivar order: it goes out after those with lesser ones.
    :ivar content: as it was encrypted, to be repeated byte by byte; None: it has yet to be encrypted.
    :ivar devices_version: of the set that it was encrypted for.
    """

    temp_id: bytes
    order: int
    conversation: bytes
    body: Plaintext
    reply_to: int | None = None
    attachments: list[bytes] | None = None
    content: bytes | None = None
    devices_version: int = 0


class ReadProgress(Struct, frozen=True, tag="read_progress"):
    """The messages of a conversation that this device has looked at: all up to this seq. By conversation."""

    conversation: bytes
    seq: int


class SendingFile(Struct, frozen=True, tag="sending_file"):
    """A file that is encrypted beside the vault, to be uploaded. By the path of the file.

    :ivar key: of the encryption.
    """

    size_bytes: int
    modified_ns: int
    key: bytes
    encrypted: str
