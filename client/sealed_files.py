"""Files of encrypted messages in a terminal: what goes to the object store, and comes from there, is ciphertext."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import trio

from client.chat_files import not_possible, target_of, upload
from client.commands import NotPossible
from client.e2ee.contents import EncryptedFile, Plaintext
from client.e2ee.files import decrypt_file, encrypt_file, new_key
from client.e2ee.keyring import Keyring
from client.e2ee.records import SendingFile
from client.e2ee.wire import Malformed
from client.object_store import ObjectStore
from client.progress import progress_bar
from client.session import Session
from client.terminal import printable
from client.upload_log import UploadLog
from protocol.frames import Message


class SealedFiles:
    """The files of one login.

    :param folder: for ciphertexts on their way to the object store.
    """

    def __init__(self, keyring: Keyring, uploads: UploadLog, folder: Path) -> None:
        self._keyring = keyring
        self._uploads = uploads
        self._folder = folder

    async def upload(self, session: Session, path: Path) -> EncryptedFile:
        """Encrypt a file and upload it. An upload that was interrupted goes on with the same ciphertext.

        :raises NotPossible: if the file cannot be sent.
        :raises ClientFailure: if the transfer fails; to call it again goes on from there.
        """
        try:
            sending = await self._encrypted(path)
        except OSError as error:
            raise not_possible(path, error) from None
        if not sending.size_bytes:
            raise NotPossible(f"{printable(str(path))} is empty; a file needs at least one byte")
        attachment, _ = await upload(session, self._uploads, Path(sending.encrypted), shown=path)
        return EncryptedFile(attachment, path.name, sending.size_bytes, sending.key)

    async def _encrypted(self, path: Path) -> SendingFile:
        name, status = str(path.resolve()), path.stat()  # noqa: ASYNC240  (one user, one file)
        known = self._keyring.sending_file(name)
        if known is not None and _is_ready(known, status):
            return known
        self.forget(path)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        key, target = new_key(), self._folder / secrets.token_hex(16)
        size = await trio.to_thread.run_sync(encrypt_file, key, path, target)
        made = SendingFile(size, status.st_mtime_ns, key, str(target))
        self._keyring.note_file(name, made)
        return made

    def forget(self, path: Path) -> None:
        """A message has the file, or the file has changed."""
        name = str(path.resolve())
        known = self._keyring.sending_file(name)
        if known is not None:
            self._uploads.remove(Path(known.encrypted))
            Path(known.encrypted).unlink(missing_ok=True)
            self._keyring.note_file(name, None)

    async def save(self, session: Session, message: Message, body: Plaintext, path: Path | None) -> list[Path]:
        """Save the files of a message, decrypted; returns their paths. A download that was interrupted goes on.

        :param path: of the first file; None: the name that the message tells, in the present folder.
        :raises NotPossible: if there is no file, if one of that name exists, or if it is not the one that was sent.
        :raises ClientFailure: if the transfer fails.
        """
        if not body.files:
            raise NotPossible(f"message {message.seq} has no file")
        saved: list[Path] = []
        async with ObjectStore() as store:
            downloader = session.downloader(store)
            for number, file in enumerate(body.files, 1):
                target = target_of(path, file.name, message.seq, number)
                sealed = target.with_name(f".{file.attachment.hex()}.sealed")
                plain = target.with_name(f".{file.attachment.hex()}.plain")
                try:
                    if target.exists():
                        raise FileExistsError(17, os.strerror(17))
                    if not sealed.exists():
                        with progress_bar(printable(target.name)) as tell:
                            await downloader.save(file.attachment, sealed, tell)
                    plain.unlink(missing_ok=True)
                    await trio.to_thread.run_sync(decrypt_file, file.key, sealed, plain, file.size_bytes)
                    # Unlike a renaming, a link never replaces a file.
                    os.link(plain, target)
                    plain.unlink()
                    sealed.unlink()
                except Malformed as error:
                    sealed.unlink()
                    raise NotPossible(f"{printable(target.name)}: {error}; nothing is saved") from None
                except OSError as error:
                    raise not_possible(target, error, message.seq) from None
                saved.append(target)
        return saved


def _is_ready(sending: SendingFile, status: os.stat_result) -> bool:
    """Whether the file is the one that was encrypted, and the ciphertext is still there."""
    is_same = (sending.size_bytes, sending.modified_ns) == (status.st_size, status.st_mtime_ns)
    return is_same and Path(sending.encrypted).exists()
