"""The two ways in which the terminal client writes and reads: encrypted, and as it is where the library is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from client.chat_files import save, upload
from client.commands import NotPossible
from client.e2ee import SEALED
from client.e2ee.contents import Plaintext, Quote
from client.e2ee.correspondent import Correspondent
from client.e2ee.keyring import Keyring
from client.e2ee.reading import UnreadableMessage
from client.lines import CONTENT_TYPE, QUOTED, Reading, text_of
from client.sealed_files import SealedFiles
from client.session import Session
from client.upload_log import UploadLog
from protocol.frames import Message, Revised, Sent


class ChatWriter(Protocol):
    """Writes to conversations, and reads what others write."""

    async def send(self, conversation: bytes, text: str, reply_to: Message | None = None) -> Sent:
        """Send a text, as an answer to another message if there is one."""

    async def send_file(self, conversation: bytes, path: Path) -> tuple[Sent, int]:
        """Send a file with its name; returns its size, too. An upload that was interrupted goes on."""

    async def edit(self, message: Message, text: str) -> Revised:
        """Put another text into a message of the user's own."""

    async def save(self, message: Message, path: Path | None) -> list[Path]:
        """Save the files of a message; see `client.chat_files.save`."""

    def read(self, message: Message) -> Reading:
        """The plaintext of an encrypted message; None if it is not encrypted."""

    async def resume(self) -> list[str]:
        """Send what an earlier program could not finish; returns the texts that the server refuses."""


class OpenWriter:
    """Writes without encryption."""

    def __init__(self, session: Session, uploads: UploadLog) -> None:
        self._session = session
        self._uploads = uploads

    async def send(self, conversation: bytes, text: str, reply_to: Message | None = None) -> Sent:
        return await self._send(conversation, text, None if reply_to is None else reply_to.seq)

    async def _send(
        self, conversation: bytes, text: str, reply_to: int | None = None, attachments: list[bytes] | None = None
    ) -> Sent:
        return await self._session.send(
            conversation,
            text.encode("utf-8", errors="replace"),
            content_type=CONTENT_TYPE,
            reply_to=reply_to,
            attachments=attachments,
        )

    async def send_file(self, conversation: bytes, path: Path) -> tuple[Sent, int]:
        attachment, file = await upload(self._session, self._uploads, path)
        sent = await self._send(conversation, path.name, attachments=[attachment])
        self._uploads.remove(path)
        return sent, file.size_bytes

    async def edit(self, message: Message, text: str) -> Revised:
        files = {"attachments": message.attachments, "thumbnail": message.thumbnail}
        return await self._session.edit(message, text.encode("utf-8", errors="replace"), **files)  # type: ignore[arg-type]

    async def save(self, message: Message, path: Path | None) -> list[Path]:
        return await save(self._session, message, path)

    def read(self, message: Message) -> Reading:
        return UnreadableMessage("no_key") if message.content_type == SEALED else None

    async def resume(self) -> list[str]:
        return []


class SealedWriter:
    """Writes with encryption."""

    def __init__(self, session: Session, correspondent: Correspondent, files: SealedFiles) -> None:
        self._session = session
        self._correspondent = correspondent
        self._keyring: Keyring = correspondent.keyring
        self._files = files

    async def send(self, conversation: bytes, text: str, reply_to: Message | None = None) -> Sent:
        quote = None
        if reply_to is not None:
            quoted = text_of(reply_to, self.read(reply_to))[:QUOTED]
            quote = Quote(reply_to.sender, quoted)
        seq = None if reply_to is None else reply_to.seq
        return await self._correspondent.send(conversation, Plaintext(_sendable(text), quote=quote), reply_to=seq)

    async def send_file(self, conversation: bytes, path: Path) -> tuple[Sent, int]:
        file = await self._files.upload(self._session, path)
        body = Plaintext(_sendable(path.name), [file])
        sent = await self._correspondent.send(conversation, body, attachments=[file.attachment])
        self._files.forget(path)
        return sent, file.size_bytes

    async def edit(self, message: Message, text: str) -> Revised:
        before = self.read(message)
        files = before.files if isinstance(before, Plaintext) else []
        quote = before.quote if isinstance(before, Plaintext) else None
        return await self._correspondent.edit(
            message, Plaintext(_sendable(text), files, quote), attachments=message.attachments
        )

    async def save(self, message: Message, path: Path | None) -> list[Path]:
        body = self.read(message)
        match body:
            case None:
                return await save(self._session, message, path)
            case UnreadableMessage():
                raise NotPossible(f"message {message.seq} cannot be read here, so its file cannot, either")
            case Plaintext():
                return await self._files.save(self._session, message, body, path)

    def read(self, message: Message) -> Reading:
        return self._keyring.read(message)

    async def resume(self) -> list[str]:
        return [message.body.text for message in await self._correspondent.resume()]


def _sendable(text: str) -> str:
    """A text that UTF-8 can hold."""
    return text.encode("utf-8", errors="replace").decode()
