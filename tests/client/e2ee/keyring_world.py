"""A server in memory for keyrings: conversations, device sets and one-time keys, without frames or connections."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from client.e2ee import KEYS, SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.keyring import Keyring
from client.e2ee.own_keys import KeyUpload
from client.e2ee.reading import UnreadableMessage
from client.e2ee.records import Outgoing
from client.e2ee.vault import Vault, open_vault
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from protocol.frames import HeldKeys, ListedDevice, Message

TALK = b"t" * 16
DAY_S = 86400.0


class MovedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Device:
    """A device of a user: its keyring, and all messages that it was shown.

    :ivar shown: what `Keyring.read` says of the messages other than key messages, by seq.
    """

    def __init__(self, world: KeyringWorld, user: bytes, id_: bytes, path: Path) -> None:
        self.world = world
        self.user = user
        self.id = id_
        self.path = path
        self.history = b"h1"
        self.messages: list[Message] = []
        self._open()

    def _open(self) -> None:
        self.vault: Vault = open_vault(self.path, "a passphrase")
        self.keyring = Keyring(
            self.vault, VodozemacRatchets(self.vault.pickle_key), self.user, self.id, clock=self.world.clock
        )

    def restart(self) -> None:
        """The program ends without a goodbye, and begins again."""
        self.vault.close()
        self._open()

    def lose_keys(self) -> None:
        self.vault.close()
        self.path.unlink()
        self._open()

    def take(self, message: Message) -> None:
        self.messages.append(message)
        self.keyring.keep([message])

    @property
    def shown(self) -> dict[int, Plaintext | UnreadableMessage | None]:
        by_seq = {each.seq: each for each in self.messages if each.content_type == SEALED}
        return {seq: self.keyring.read(by_seq[seq]) for seq in sorted(by_seq)}

    @property
    def texts(self) -> list[str]:
        """What can be read, in order; the reason for each message that cannot."""
        return [
            each.text if isinstance(each, Plaintext) else f"({each and each.reason})" for each in self.shown.values()
        ]


class KeyringWorld:
    """One conversation.

    :ivar clock: of all devices.
    :ivar devices: of the conversation's set.
    :ivar version: of the set.
    :ivar messages: as the server has them, with all envelopes.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = MovedClock()
        self.devices: list[Device] = []
        self.version = 1
        self.messages: list[tuple[Message, dict[bytes, bytes]]] = []
        self._folder = folder
        self._pools: dict[bytes, list[tuple[str, int, bytes]]] = {}
        self._last: dict[bytes, list[tuple[str, int, bytes]]] = {}
        self._identities: dict[bytes, bytes] = {}
        self._all: list[Device] = []
        self._numbers = count(1)

    def join(self, user: str) -> Device:
        """A new device of a user, who takes part from now on."""
        id_ = next(self._numbers).to_bytes(16, "big")
        device = Device(self, user.encode().ljust(16, b"."), id_, self._folder / f"{id_.hex()}.keys")
        self._all.append(device)
        self._publish_first(device)
        self.devices.append(device)
        return device

    def replace_keys(self, device: Device) -> None:
        """The device has lost its keys, and publishes another identity."""
        device.lose_keys()
        self._pools[device.id] = []
        self._publish_first(device)

    def _publish_first(self, device: Device) -> None:
        upload = device.keyring.next_upload(HeldKeys(0, None, 0, b"h", []))
        assert upload is not None
        self.publish(device, upload)
        self.version += 1

    def publish(self, device: Device, upload: KeyUpload) -> None:
        self._identities[device.id] = upload.identity
        self._pools.setdefault(device.id, []).extend(upload.one_time_keys)
        self._last[device.id] = upload.last_resort_keys or self._last[device.id]

    def leave(self, device: Device) -> None:
        """The device is revoked."""
        self.devices.remove(device)
        self.version += 1

    def listed(self, users: Iterable[bytes], *, claims: bool = False) -> list[ListedDevice]:
        found = []
        for device in self.devices:
            if device.user in users:
                one_time = [self._pools[device.id].pop(0)] if claims and self._pools[device.id] else None
                last = self._last[device.id] if claims and one_time is None else None
                found.append(ListedDevice(device.user, device.id, self._identities[device.id], 1, one_time, last))
        return found

    @property
    def users(self) -> list[bytes]:
        return sorted({device.user for device in self.devices})

    def drain(self, device: Device) -> None:
        """All one-time keys of a device are claimed."""
        self._pools[device.id].clear()

    def share(self, device: Device) -> None:
        """The device learns of the present set, and sends the key to all that lack it."""
        keyring = device.keyring
        if keyring.set_version(TALK) != self.version:
            keyring.take_set(TALK, self.version, self.users, self.listed(self.users))
        _, users = keyring.lacking(TALK)
        if users:
            keyring.take_claimed(users, self.listed(users, claims=True))
        recipients, users = keyring.lacking(TALK)
        while recipients:
            temp_id = secrets.token_bytes(16)
            message = keyring.share_key(TALK, recipients, temp_id)
            assert message is not None
            self.store(device, message.content, temp_id, KEYS, dict(message.envelopes))
            keyring.have_shared(TALK, message, self.clock())
            recipients, users = keyring.lacking(TALK)

    def send(self, device: Device, text: str) -> Message:
        """The device shares its key and sends a text; all devices take it."""
        self.share(device)
        temp_id = secrets.token_bytes(16)
        device.keyring.queue(Outgoing(temp_id, len(self.messages), TALK, Plaintext(text)))
        sealed = device.keyring.seal(temp_id)
        assert sealed.content is not None
        message = self.store(device, sealed.content, temp_id, SEALED)
        device.keyring.have_sent(temp_id, message.message, message.seq)
        return message

    def edit(self, device: Device, message: Message, text: str) -> Message:
        """The device edits its message; all devices take it."""
        self.share(device)
        content, version = device.keyring.seal_edit(message, Plaintext(text))
        assert version == self.version
        edited = Message(
            *(getattr(message, field) for field in message.__struct_fields__[:5]),
            SEALED,
            content,
            None,
            None,
            None,
            device.id,
            (message.revision or 0) + 1,
        )
        for each in self.devices:
            each.messages = [old for old in each.messages if old.seq != message.seq]
            each.take(edited)
        return edited

    def store(
        self,
        device: Device,
        content: bytes,
        temp_id: bytes,
        content_type: str,
        envelopes: dict[bytes, bytes] | None = None,
    ) -> Message:
        """The server has a message; each device takes what it is shown of it."""
        seq = len(self.messages) + 1
        message = Message(
            TALK,
            seq,
            seq.to_bytes(16, "big"),
            round(self.clock() * 1_000_000),
            device.user,
            content_type,
            content,
            None,
            None,
            temp_id,
            device.id,
            has_envelopes=bool(envelopes) or None,
        )
        self.messages.append((message, envelopes or {}))
        for each in self.devices:
            each.take(self.shown_to(each, message, envelopes or {}))
        return message

    @staticmethod
    def shown_to(device: Device, message: Message, envelopes: dict[bytes, bytes]) -> Message:
        return replace(
            message,
            temp_id=message.temp_id if message.sender == device.user else None,
            envelope=envelopes.get(device.id),
        )

    def close(self) -> None:
        for device in self._all:
            device.vault.close()


def cheap_passphrases(set_: Callable[[str, object], None]) -> None:
    """Argon2id at its least costs, for tests that open many vaults."""
    set_("client.e2ee.vault.TIME_COST", 1)
    set_("client.e2ee.vault.MEMORY_KIB", 32)


@contextmanager
def keyring_world(folder: Path) -> Iterator[KeyringWorld]:
    world = KeyringWorld(folder)
    try:
        yield world
    finally:
        world.close()
