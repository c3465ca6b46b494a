"""Archives: messages that retention removes, written to the object store, and read back.

One object holds a range of one conversation's messages without gaps, as clients see them; `docs/archive.md` has the
format. The same messages make the same bytes under the same key, so a process that crashes between writing and deleting
can start again.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import AsyncGenerator, Sequence
from hashlib import sha256
from io import BytesIO
from typing import Final
from uuid import UUID

import cbor2
import msgspec
import trio
from msgspec import Struct

from protocol.codec import decode_from_server, encode
from protocol.errors import RemoteProtocolError
from protocol.frames import Message, Tombstone
from store.errors import BadArchive
from store.objects.interface import ARCHIVE, Objects, StoredObject, walk

FORMAT: Final = "alo-archive"
VERSION: Final = 1

MAX_MESSAGES: Final = 1000
"""Messages of one object: 70 MB if each has the maximum size."""

MAX_BYTES: Final = 128 * 1024 * 1024
"""Bytes of one archive, unpacked: far above any that this module writes."""

CONTENT_TYPE: Final = "application/gzip"
LEVEL: Final = 6
"""zlib's level. Content is encrypted and does not shrink; the rest of a record shrinks to a half."""

_NAME: Final = re.compile(r"(\d{19})-(\d{19})\.cbor\.gz")


class Header(Struct, frozen=True):
    """The beginning of an archive.

    :ivar created_first: of its first message; like `created_last`, in microseconds since 1970.
    :ivar sha256: of all bytes after the header.
    """

    format: str
    version: int
    conversation: bytes
    first: int
    last: int
    count: int
    created_first: int
    created_last: int
    sha256: bytes


class Archive(Struct, frozen=True):
    """An archive in the object store, of messages `first` to `last`."""

    key: str
    first: int
    last: int
    size_bytes: int


def key_of(conversation: bytes, first: int, last: int) -> str:
    """Keys of one conversation sort by `first`, then `last`."""
    return f"{_folder_of(conversation)}{first:019d}-{last:019d}.cbor.gz"


async def write_archive(objects: Objects, conversation: bytes, messages: Sequence[Message | Tombstone]) -> str:
    """Write messages to an archive; return the key of the object. It is durable then, and the messages may be deleted.

    After the write it deletes archives whose range lies within that of the new one: a process crashed before it removed
    their messages, and a message may have been deleted for everyone since.

    :param messages: of this conversation, 1 to `MAX_MESSAGES`, each with the seq after the one before.
    :raises ValueError: if `messages` breaks these rules.
    :raises Unavailable: if the object store cannot be reached; the archive may have been written.
    :raises ObjectStoreRefused: if an operator has to do something.
    """
    key, data = await trio.to_thread.run_sync(_pack, conversation, messages)
    await objects.put(key, data, CONTENT_TYPE)
    first, last = messages[0].seq, messages[-1].seq
    # One page suffices: a second one would take 1,000 crashes.
    following = map(_archive_of, await objects.list(_folder_of(conversation), key_of(conversation, first, 0)))
    within = [archive.key for archive in following if archive and archive.last <= last and archive.key != key]
    if within:
        await objects.delete(within)
    return key


async def read_archive(objects: Objects, key: str) -> list[Message | Tombstone]:
    """The messages of one archive, in order of seq.

    :raises ObjectMissing: if there is no such object.
    :raises BadArchive: if it is not an archive, or damaged.
    :raises Unavailable: if the object store cannot be reached.
    """
    return await trio.to_thread.run_sync(_unpack, key, await objects.get(key))


async def list_archives(objects: Objects, conversation: bytes) -> list[Archive]:
    """The archives of a conversation, in order of their first seq. Ranges may overlap after a crash."""
    found = [_archive_of(entry) async for entry in walk(objects, _folder_of(conversation))]
    return [archive for archive in found if archive]


async def read_conversation(objects: Objects, conversation: bytes) -> AsyncGenerator[Message | Tombstone, None]:
    """The archived messages of a conversation, in order of seq; the last state of a message that is in two archives.

    Holds one archive in memory, and those that overlap with it.
    """
    waiting: dict[int, Message | Tombstone] = {}
    for archive in await list_archives(objects, conversation):
        for seq in sorted(seq for seq in waiting if seq < archive.first):
            yield waiting.pop(seq)
        for message in await read_archive(objects, archive.key):
            waiting[message.seq] = _later(waiting.get(message.seq), message)
    for seq in sorted(waiting):
        yield waiting[seq]


def _later(one: Message | Tombstone | None, other: Message | Tombstone) -> Message | Tombstone:
    if one is None or isinstance(other, Tombstone):
        return other
    if isinstance(one, Tombstone):
        return one
    return max(one, other, key=lambda message: message.revision or 0)


def _archive_of(entry: StoredObject) -> Archive | None:
    """None if the object is not an archive."""
    name = _NAME.fullmatch(entry.key.rpartition("/")[2])
    return Archive(entry.key, int(name[1]), int(name[2]), entry.size_bytes) if name else None


def _folder_of(conversation: bytes) -> str:
    return f"{ARCHIVE}{UUID(bytes=conversation)}/"


def _pack(conversation: bytes, messages: Sequence[Message | Tombstone]) -> tuple[str, bytes]:
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise ValueError(f"{len(messages)} messages; an archive takes 1 to {MAX_MESSAGES}")
    first, last = messages[0], messages[-1]
    for seq, message in enumerate(messages, first.seq):
        if message.conversation != conversation or message.seq != seq:
            raise ValueError(f"seq {message.seq} where {seq} of the conversation should be: an archive has no gaps")
    records = b"".join(map(encode, messages))
    header = Header(
        format=FORMAT,
        version=VERSION,
        conversation=conversation,
        first=first.seq,
        last=last.seq,
        count=len(messages),
        created_first=first.created,
        created_last=last.created,
        sha256=sha256(records).digest(),
    )
    content = cbor2.dumps(msgspec.structs.asdict(header)) + records
    # Without a time in gzip's own header, which would differ at each attempt.
    return key_of(conversation, first.seq, last.seq), gzip.compress(content, LEVEL, mtime=0)


def _unpack(key: str, data: bytes) -> list[Message | Tombstone]:
    content = _unzip(key, data)
    header, start = _header_of(key, content)
    records = content[start:]
    if sha256(records).digest() != header.sha256:
        raise BadArchive(key, "damaged: its checksum does not match")
    try:
        messages = [each for each in decode_from_server(records) if isinstance(each, (Message, Tombstone))]
    except RemoteProtocolError as error:
        raise BadArchive(key, f"a record cannot be read: {error.detail}") from None
    found = [(message.conversation, message.seq) for message in messages]
    if found != [(header.conversation, seq) for seq in range(header.first, header.last + 1)]:
        raise BadArchive(key, "its records are not those that its header names")
    return messages


def _unzip(key: str, data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = unpacker.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise BadArchive(key, f"damaged, or not made by gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise BadArchive(key, f"more than {MAX_BYTES} bytes, unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise BadArchive(key, "damaged: it ends too early, or too late")
    return content


def _header_of(key: str, content: bytes) -> tuple[Header, int]:
    """The header, and where the records begin."""
    stream = BytesIO(content)
    try:
        header = msgspec.convert(cbor2.CBORDecoder(stream, max_depth=2).decode(), Header, builtin_types=(bytes,))
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise BadArchive(key, f"its header cannot be read: {error}") from None
    if (header.format, header.version) != (FORMAT, VERSION):
        raise BadArchive(key, f"format {header.format} {header.version}, not {FORMAT} {VERSION}")
    return header, stream.tell()
