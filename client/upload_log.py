"""The uploads that a program has begun, for a later program that goes on with them: one file for each login."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct

from client.file_parts import FileParts
from client.uploads import OpenUpload


class _Entry(Struct, frozen=True):
    size_bytes: int
    modified_ns: int
    digests: bytes
    attachment: bytes


class UploadLog:
    """Uploads without thumbnails, by the absolute paths of their files.

    :param path: of the log; it has no secret, but tells which files the user sends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, path: Path) -> tuple[FileParts, OpenUpload] | None:
        """The upload of this file, if the file is the same as then."""
        entry = self._load().get(str(path.resolve()))
        status = path.stat()
        if entry is None or (entry.size_bytes, entry.modified_ns) != (status.st_size, status.st_mtime_ns):
            return None
        file = FileParts(path, entry.size_bytes, entry.modified_ns, entry.digests)
        return file, OpenUpload(entry.attachment)

    def add(self, file: FileParts, upload: OpenUpload) -> None:
        """Note an upload in place of an earlier one of the same file."""
        entry = _Entry(file.size_bytes, file.modified_ns, file.digests, upload.attachment)
        self._save({**self._load(), str(file.path.resolve()): entry})

    def remove(self, path: Path) -> None:
        """Forget the upload of this file: a message has it, or the server does not."""
        entries = self._load()
        if entries.pop(str(path.resolve()), None) is not None:
            self._save(entries)

    def _load(self) -> dict[str, _Entry]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Entry])
        except (OSError, msgspec.DecodeError):
            return {}

    def _save(self, entries: dict[str, _Entry]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
            file.write(msgspec.json.encode(entries))
        os.replace(file.name, self._path)
