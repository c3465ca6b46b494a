"""The files of a chat in a terminal: `/send FILE`, `/save N [FILE]` and avatars."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from client.commands import NotPossible
from client.errors import RequestRefused
from client.file_parts import FileParts, read_parts
from client.object_store import ObjectStore
from client.progress import progress_bar
from client.session import Session
from client.terminal import printable
from client.upload_log import UploadLog
from client.uploads import MEDIA_TYPE, OpenUpload, OutgoingFile, Uploader
from protocol.frames import Message

PUBLIC_AVATARS: Final = "public_avatars"
"""The feature of a server whose avatars are pictures (`protocol/SPEC.md`, 18.10)."""

PICTURES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""The end of a file's name -> the media type of a public avatar."""

MAX_NAME_BYTES: Final = 200
"""Of a file's name that another user has chosen, in UTF-8. File systems take 255; some are left for a number."""


def path_of(typed: str) -> Path:
    """The path that a user has typed; `~` is the user's home."""
    return Path(typed).expanduser()


async def upload(session: Session, log: UploadLog, path: Path) -> tuple[bytes, FileParts]:
    """Upload a file as it is; returns its attachment. An upload that was interrupted goes on.

    :raises NotPossible: if the file cannot be sent.
    :raises ClientFailure: if the transfer fails; to call it again goes on from there.
    """
    try:
        known = log.find(path)
        file = await read_parts(path) if known is None else known[0]
    except OSError as error:
        raise NotPossible(f"{printable(str(path))}: {error.strerror}") from None
    if not file.size_bytes:
        raise NotPossible(f"{printable(str(path))} is empty; a file needs at least one byte")
    async with ObjectStore() as store:
        uploader = session.uploader(store)
        opened = await _declare(uploader, log, file) if known is None else known[1]
        with progress_bar(printable(path.name)) as tell:
            try:
                await uploader.finish(opened, OutgoingFile(file), tell)
            except RequestRefused as refused:
                if refused.code != "unknown_attachment" or known is None:
                    raise
                # The server has given it up, or a message has it: the file is sent once more.
                opened = await _declare(uploader, log, file)
                await uploader.finish(opened, OutgoingFile(file), tell)
    return opened.attachment, file


async def _declare(uploader: Uploader, log: UploadLog, file: FileParts) -> OpenUpload:
    [opened] = await uploader.declare([OutgoingFile(file)])
    log.add(file, opened)
    return opened


async def upload_avatar(session: Session, path: Path) -> bytes:
    """Upload a picture as it is; returns its attachment.

    :raises NotPossible: if the file cannot be an avatar here.
    :raises ClientFailure: if the transfer fails.
    """
    media_type = MEDIA_TYPE
    if PUBLIC_AVATARS in session.features:
        media_type = PICTURES.get(path.suffix.lower(), "")
        if not media_type:
            raise NotPossible(f"{printable(str(path))}: an avatar must be a file {', '.join(PICTURES)}")
    try:
        file = await read_parts(path)
    except OSError as error:
        raise NotPossible(f"{printable(str(path))}: {error.strerror}") from None
    if not file.size_bytes:
        raise NotPossible(f"{printable(str(path))} is empty; a file needs at least one byte")
    async with ObjectStore() as store:
        uploader = session.uploader(store)
        outgoing = OutgoingFile(file, media_type=media_type)
        [opened] = await uploader.declare([outgoing], is_avatar=True)
        await uploader.finish(opened, outgoing)
    return opened.attachment


async def save(session: Session, message: Message, path: Path | None) -> list[Path]:
    """Save the files of a message; returns their paths. A download that was interrupted goes on.

    :param path: of the file; None: the name that the message tells, in the present folder.
    :raises NotPossible: if there is no file, or one of that name exists.
    :raises ClientFailure: if the transfer fails; to call it again goes on from there.
    """
    attachments = message.attachments or []
    if not attachments:
        raise NotPossible(f"message {message.seq} has no file")
    first = path or Path(name_of(message))
    saved: list[Path] = []
    async with ObjectStore() as store:
        downloader = session.downloader(store)
        for number, attachment in enumerate(attachments, 1):
            target = first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")
            with progress_bar(printable(target.name)) as tell:
                try:
                    await downloader.save(attachment, target, tell)
                except OSError as error:
                    hint = (
                        f"; choose another name: /save {message.seq} FILE" if isinstance(error, FileExistsError) else ""
                    )
                    raise NotPossible(f"{printable(str(target))}: {error.strerror}{hint}") from None
            saved.append(target)
    return saved


def name_of(message: Message) -> str:
    """The name for the file of a message: its text, if that can be the name of a file in the present folder."""
    text = message.content.decode("utf-8", errors="replace").strip()
    is_name = text and len(text.encode()) <= MAX_NAME_BYTES and text == printable(text) and not text.startswith(".")
    return text if is_name and not set(text) & set('/\\:*?"<>|') else f"file-{message.seq}"
