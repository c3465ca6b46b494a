"""All keys of one device, in its vault. Without I/O but for that file: each method is one transaction, without a wait.

What leaves the device is in the vault before: so whenever the program is killed, no key of a ratchet encrypts twice,
and what may have been sent is repeated byte by byte. What came is in the vault, decrypted, before the server hears of
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from client.e2ee import KEYS, SEALED, given_keys, known, own_keys, reading, undecrypted, writing
from client.e2ee.contents import CONTENT, Plaintext, encode_content
from client.e2ee.own_keys import KeyUpload
from client.e2ee.ratchets import CannotDecrypt, Ratchets
from client.e2ee.reading import UnreadableMessage
from client.e2ee.records import (
    DeviceSet,
    GivenKey,
    KeyChange,
    Outgoing,
    OwnDevice,
    PeerDevice,
    Plain,
    ReadProgress,
    Recipient,
    SenderRatchet,
    SendingFile,
    Undecrypted,
)
from client.e2ee.vault import Transaction, Vault
from client.e2ee.wire import Malformed, Sealed
from client.e2ee.writing import KeyMessage
from client.held import Entry
from protocol.frames import HeldKeys, ListedDevice, Message, Tombstone

Clock = Callable[[], float]


class Keyring:
    """The keys of a device.

    :param clock: in seconds since 1970.
    """

    def __init__(
        self, vault: Vault, ratchets: Ratchets, user: bytes, device: bytes, *, clock: Clock = time.time
    ) -> None:
        self.user: Final = user
        self.device: Final = device
        self._vault = vault
        self._ratchets = ratchets
        self._clock = clock
        self._has_reports = True
        with vault.transaction() as tx:
            own_keys.make_device(tx, ratchets, user, device, round(clock() * 1_000_000))

    def set_passphrase(self, passphrase: str) -> None:
        """From now on another passphrase opens the vault."""
        self._vault.set_passphrase(passphrase)

    def close(self) -> None:
        """Close the vault; the keyring is not to be used any more."""
        self._vault.close()

    def now(self) -> float:
        """In seconds since 1970."""
        return self._clock()

    def next_upload(self, held: HeldKeys) -> KeyUpload | None:
        """See `client.e2ee.own_keys.next_upload`."""
        with self._step() as (tx, own):
            return own_keys.next_upload(tx, self._ratchets, own, held, self._clock())

    # What comes.

    def keep(self, entries: Iterable[Entry]) -> None:
        """Take messages from any source, in any order, also again: the keys and the plaintexts that they have for this
        device are in the vault when this returns."""
        concerned = [each for each in entries if isinstance(each, Tombstone) or each.content_type in (SEALED, KEYS)]
        if not concerned:
            return
        with self._step() as (tx, own):
            for entry in concerned:
                if isinstance(entry, Tombstone):
                    tx.drop(Plain, entry.message, of=entry.conversation)
                    tx.drop(Undecrypted, entry.message)
                    self._has_reports = True
                else:
                    self._keep_one(tx, own, entry)

    def _keep_one(self, tx: Transaction, own: OwnDevice, message: Message) -> None:
        if reading.is_key_message(message) or message.envelope is not None:
            self._take_keys(tx, own, message)
        if not reading.is_key_message(message):
            plaintext = reading.read(tx, self._ratchets, message)
            is_unreadable = plaintext if isinstance(plaintext, UnreadableMessage) else None
            self._has_reports |= undecrypted.note(tx, own, message, is_unreadable)

    def _take_keys(self, tx: Transaction, own: OwnDevice, message: Message) -> None:
        try:
            with tx.part():
                reading.take_keys(tx, self._ratchets, own, message, self._clock())
        except CannotDecrypt:
            if message.device is not None:
                reading.distrust_sessions(tx, message.device, self._clock())
        except Malformed:
            return  # The messages that need this key say that it has not come.

    def read(self, message: Message) -> Plaintext | UnreadableMessage | None:
        """The plaintext of a message; None if the message is not encrypted."""
        if message.content_type != SEALED:
            return None
        with self._vault.transaction() as tx:
            return reading.read(tx, self._ratchets, message)

    def progress(self, conversation: bytes) -> int | None:
        """Up to which seq this device has looked at a conversation; None if it has not."""
        with self._vault.transaction() as tx:
            progress = tx.get(ReadProgress, conversation)
        return None if progress is None else progress.seq

    def note_progress(self, conversation: bytes, seq: int) -> None:
        """This device has taken all messages of a conversation up to this seq."""
        with self._vault.transaction() as tx:
            progress = tx.get(ReadProgress, conversation)
            if progress is None or progress.seq < seq:
                tx.put(ReadProgress(conversation, seq), conversation)

    def forget_gone(self, first_seqs: dict[bytes, int]) -> None:
        """The user takes part in these conversations alone, and may read each from this seq on: other plaintexts go."""
        with self._vault.transaction() as tx:
            undecrypted.forget(tx, set(first_seqs))
            for progress in tx.all(ReadProgress):
                conversation, first_seq = progress.conversation, first_seqs.get(progress.conversation)
                if first_seq is None:
                    tx.drop_all(Plain, of=conversation)
                    tx.drop(ReadProgress, conversation)
                    tx.drop(DeviceSet, conversation)
                    tx.drop(SenderRatchet, conversation)
                    tx.drop_all(GivenKey, of=conversation)
                    continue
                for plain in tx.all(Plain, of=conversation) if first_seq > 1 else ():
                    if plain.seq < first_seq:
                        tx.drop(Plain, plain.message, of=conversation)

    def due_reports(self) -> list[Undecrypted]:
        """See `client.e2ee.undecrypted.due`. Cheap if nothing has come since there were none."""
        if not self._has_reports:
            return []
        with self._vault.transaction() as tx:
            found = undecrypted.due(tx, self._clock())
        self._has_reports = bool(found)
        return found

    def have_reported(self, report: Undecrypted) -> None:
        """See `client.e2ee.undecrypted.have_reported`."""
        with self._vault.transaction() as tx:
            undecrypted.have_reported(tx, report, self._clock())

    def count_answer(self, message: Message, device: bytes) -> bool:
        """See `client.e2ee.undecrypted.count_answer`; the count is on the disk when this returns."""
        with self._vault.transaction() as tx:
            return undecrypted.count_answer(tx, message.message, device, self._clock())

    @property
    def earliest(self) -> int:
        """No earlier message is for this device: when it was made, in microseconds since 1970, by any clock."""
        with self._step() as (_, own):
            return own.since - reading.SLACK_US

    # Devices.

    def set_version(self, conversation: bytes) -> int | None:
        """The version of a conversation's device set as it is known here; None if it is not."""
        with self._vault.transaction() as tx:
            held = tx.get(DeviceSet, conversation)
        return None if held is None else held.version

    def take_set(
        self, conversation: bytes, version: int, users: Sequence[bytes], listed: Sequence[ListedDevice]
    ) -> None:
        """These are all users and devices of a conversation as of this version; keys of them may have been claimed."""
        with self._step() as (tx, own):
            self._take_listed(tx, own, users, listed)
            writing.take_set(tx, conversation, version, users, listed)

    def take_difference(
        self, conversation: bytes, version: int, users: Sequence[bytes], listed: Sequence[ListedDevice]
    ) -> bool:
        """See `client.e2ee.writing.take_difference`."""
        with self._step() as (tx, own):
            self._take_listed(tx, own, users, listed)
            return writing.take_difference(tx, conversation, version, users, listed)

    def take_claimed(self, users: Sequence[bytes], listed: Sequence[ListedDevice]) -> None:
        """All devices of these users, with keys that were claimed."""
        with self._step() as (tx, own):
            self._take_listed(tx, own, users, listed)

    def _take_listed(
        self, tx: Transaction, own: OwnDevice, users: Sequence[bytes], listed: Sequence[ListedDevice]
    ) -> None:
        known.take_listed(tx, self._ratchets, own, users, listed)
        writing.begin_sessions(tx, self._ratchets, own, listed)

    def knows(self, user: bytes) -> bool:
        """Whether any device of a user is known, which uses this encryption."""
        with self._vault.transaction() as tx:
            return bool(tx.all(PeerDevice, of=user))

    def changes(self) -> list[KeyChange]:
        """The changes of devices of which the user has yet to hear: see `have_told`."""
        with self._vault.transaction() as tx:
            return tx.all(KeyChange)

    def have_told(self, changes: Sequence[KeyChange]) -> None:
        """The user has heard of these changes."""
        with self._vault.transaction() as tx:
            known.have_told(tx, changes)

    def safety_number(self, user: bytes) -> tuple[str, bool | None]:
        """The number for this user and another one, and whether they have compared it (None: none before)."""
        with self._step() as (tx, own):
            number = known.safety_number(tx, self._ratchets, own, user)
            return number, known.is_verified(tx, user, number)

    def verify(self, user: bytes, number: str) -> None:
        """The users have compared this number."""
        with self._vault.transaction() as tx:
            known.verify(tx, user, number)

    # What goes.

    def lacking(self, conversation: bytes, shared_since: float = 0.0) -> tuple[list[Recipient], list[bytes]]:
        """The devices that lack the key of the next content, and the users of those without a session."""
        with self._vault.transaction() as tx:
            recipients = writing.lacking(tx, conversation, self._clock(), shared_since)
            return recipients, writing.without_session(tx, recipients)

    def recipients(self, conversation: bytes) -> list[Recipient]:
        """The devices of a conversation, as they are known here."""
        with self._vault.transaction() as tx:
            held = tx.get(DeviceSet, conversation)
        return [] if held is None else held.recipients

    def share_key(self, conversation: bytes, recipients: Sequence[Recipient], temp_id: bytes) -> KeyMessage | None:
        """See `client.e2ee.writing.share_key`."""
        with self._step() as (tx, own):
            return writing.share_key(tx, self._ratchets, own, conversation, recipients, temp_id, self._clock())

    def have_shared(self, conversation: bytes, message: KeyMessage, at: float) -> None:
        """See `client.e2ee.writing.have_shared`."""
        with self._vault.transaction() as tx:
            writing.have_shared(tx, conversation, message, at)
            given_keys.note_given(tx, conversation, message)

    def was_given(self, message: Message, device: bytes) -> tuple[bytes, bool] | None:
        """See `client.e2ee.given_keys.given_key`: the user of that device, and whether there is a session with it."""
        with self._vault.transaction() as tx:
            given = given_keys.given_key(tx, message, device)
            if given is None:
                return None
            return given.recipient.user, not writing.without_session(tx, [given.recipient])

    def give_again(self, message: Message, device: bytes) -> bytes | None:
        """See `client.e2ee.given_keys.give_again`."""
        with self._step() as (tx, own):
            return given_keys.give_again(tx, self._ratchets, own, message, device)

    def queue(self, message: Outgoing) -> None:
        """The user has written a message."""
        with self._vault.transaction() as tx:
            tx.put(message, message.temp_id)

    def queued(self) -> list[Outgoing]:
        """The messages that the server has not acknowledged, in order."""
        with self._vault.transaction() as tx:
            return sorted(tx.all(Outgoing), key=lambda each: each.order)

    def seal(self, temp_id: bytes) -> Outgoing:
        """A queued message with its content, which is encrypted if it is not yet."""
        with self._step() as (tx, own):
            message = tx.get(Outgoing, temp_id)
            held = tx.get(DeviceSet, message.conversation) if message is not None else None
            assert message is not None
            assert held is not None
            if message.content is None:
                sealed = Sealed(
                    message.conversation,
                    own.user,
                    own.device,
                    temp_id,
                    b"",
                    0,
                    CONTENT,
                    message.reply_to or 0,
                    False,
                    encode_content(message.body),
                )
                content = writing.seal(tx, self._ratchets, own, sealed, self._clock())
                message = replace(message, content=content, devices_version=held.version)
                tx.put(message, temp_id)
            return message

    def unseal(self, temp_id: bytes) -> None:
        """The server has refused a content for the devices that it was encrypted for: another one is encrypted."""
        with self._vault.transaction() as tx:
            message = tx.get(Outgoing, temp_id)
            if message is not None:
                tx.put(replace(message, content=None), temp_id)

    def have_sent(self, temp_id: bytes, message: bytes, seq: int) -> None:
        """The server has acknowledged a message; its plaintext is kept under its id."""
        with self._vault.transaction() as tx:
            sent = tx.get(Outgoing, temp_id)
            if sent is not None:
                tx.drop(Outgoing, temp_id)
                plain = Plain(message, seq, 0, reading.digest_of(sent.content or b""), temp_id, sent.body)
                tx.put(plain, message, of=sent.conversation)

    def give_up(self, temp_id: bytes) -> None:
        """The server will not take a message."""
        with self._vault.transaction() as tx:
            tx.drop(Outgoing, temp_id)

    def seal_edit(self, message: Message, body: Plaintext) -> tuple[bytes, int]:
        """The content of an edit, and the version of the device set that it is for."""
        with self._step() as (tx, own):
            held = tx.get(DeviceSet, message.conversation)
            assert held is not None
            kept = tx.get(Plain, message.message, of=message.conversation)
            sealed = Sealed(
                message.conversation,
                own.user,
                own.device,
                message.temp_id or (kept.temp_id if kept is not None else b""),
                message.message,
                (message.revision or 0) + 1,
                CONTENT,
                message.reply_to or 0,
                bool(message.is_quiet),
                encode_content(body),
            )
            return writing.seal(tx, self._ratchets, own, sealed, self._clock()), held.version

    # Files.

    def sending_file(self, path: str) -> SendingFile | None:
        """A file whose encryption was begun before."""
        with self._vault.transaction() as tx:
            return tx.get(SendingFile, path.encode("utf-8", errors="surrogateescape"))

    def note_file(self, path: str, file: SendingFile | None) -> None:
        """A file has been encrypted; None: it is sent."""
        name = path.encode("utf-8", errors="surrogateescape")
        with self._vault.transaction() as tx:
            if file is None:
                tx.drop(SendingFile, name)
            else:
                tx.put(file, name)

    @contextmanager
    def _step(self) -> Iterator[tuple[Transaction, OwnDevice]]:
        with self._vault.transaction() as tx:
            own = tx.get(OwnDevice)
            assert own is not None
            yield tx, own
