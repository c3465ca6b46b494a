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
"""The most bytes of a file's name that another user has chosen, in UTF-8. File systems take 255: this leaves some for
a number."""


def path_of(typed: str) -> Path:
    """The path that a user has typed; `~` is the user's home."""
    return Path(typed).expanduser()


async def upload(session: Session, log: UploadLog, path: Path, *, shown: Path | None = None) -> tuple[bytes, FileParts]:
    """Upload a file as it is; returns its attachment. An upload that was interrupted goes on.

    :param shown: the file that the user has named, if that differs.
    :raises NotPossible: if the file cannot be sent.
    :raises ClientFailure: if the transfer fails; to call it again goes on from there.
    """
    try:
        known = log.find(path)
        file = await read_parts(path) if known is None else known[0]
    except OSError as error:
        raise not_possible(shown or path, error) from None
    if not file.size_bytes:
        raise NotPossible(f"{printable(str(path))} is empty; a file needs at least one byte")
    async with ObjectStore() as store:
        uploader = session.uploader(store)
        opened = await _declare(uploader, log, file) if known is None else known[1]
        with progress_bar(printable((shown or path).name)) as tell:
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
        raise not_possible(path, error) from None
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
    saved: list[Path] = []
    async with ObjectStore() as store:
        downloader = session.downloader(store)
        for number, attachment in enumerate(attachments, 1):
            target = target_of(path, message.content.decode("utf-8", errors="replace"), message.seq, number)
            with progress_bar(printable(target.name)) as tell:
                try:
                    await downloader.save(attachment, target, tell)
                except OSError as error:
                    raise not_possible(target, error, message.seq) from None
            saved.append(target)
    return saved


def not_possible(path: Path, error: OSError, seq: int | None = None) -> NotPossible:
    """The failure of a file.

    :param seq: of the message whose file is to be saved, if that is it.
    """
    is_taken = seq is not None and isinstance(error, FileExistsError)
    hint = f"; choose another name: /save {seq} FILE" if is_taken else ""
    return NotPossible(f"{printable(str(path))}: {error.strerror}{hint}")


def target_of(path: Path | None, told: str, seq: int, number: int = 1) -> Path:
    """Where to save a file of a message.

    :param path: for the first file, if the user has chosen it.
    :param told: the name that the message tells.
    :param number: of the file among those of the message.
    """
    first = path or Path(name_of(told, seq))
    return first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")


def name_of(told: str, seq: int) -> str:
    """The name for a file of a message: the one that it tells, if a file in the present folder can have it."""
    text = told.strip()
    is_name = text and len(text.encode()) <= MAX_NAME_BYTES and text == printable(text) and not text.startswith(".")
    return text if is_name and not set(text) & set('/\\:*?"<>|') else f"file-{seq}"
