"""The object store for its callers: files under keys, for archives and attachments.

There are two implementations: a folder (`store.objects.folder`) and an S3-compatible service (`store.objects.s3`);
`store.objects.url` opens the one that OBJECT_STORE_URL names.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from store.errors import BadKey
from store.objects.calls import CallTimes

ARCHIVE: Final = "archive/"
ATTACHMENTS: Final = "attachments/"
"""Prefixes of keys: archives of messages, and attachments with their thumbnails."""

MAX_KEY_BYTES: Final = 512
"""S3 takes 1,024; file systems 255 for each part."""

MAX_PART_BYTES: Final = 200

MAX_GET_BYTES: Final = 128 * 1024 * 1024
"""The most bytes that one `get` takes into memory, unless its caller passes another limit."""

MAX_PAGE: Final = 1000
"""Objects on one page of a list, and keys of one deletion; S3 lists no more."""

TIMEOUT_S: Final = 60.0
"""For one call: 64 MiB at 10 Mbit/s. Tasks that use the object store may take longer."""

_PART: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_PREFIX: Final = re.compile(rf"(?:{_PART}/)*(?:{_PART})?")


class StoredObject(Struct, frozen=True):
    """One object in a list.

    :ivar modified: when it was written, in microseconds since 1970, by the object store's clock.
    """

    key: str
    size_bytes: int
    modified: int


Listing: TypeAlias = list[StoredObject]


class Usage(Struct, frozen=True):
    """The number of objects, and their bytes."""

    objects: int
    size_bytes: int


class Objects(Protocol):
    """An object store. Each call ends within `TIMEOUT_S`; each may be repeated.

    Keys are parts of ASCII letters, digits, `.`, `_` and `-`, between slashes; no part begins with a dot. No key begins
    with another key plus a slash: a file cannot be a folder.

    All raise `Unavailable` if the store cannot be reached, is at its limits or does not answer in time (the request may
    have taken effect), `ObjectStoreRefused` if an operator has to act, and `BadKey` for a text that cannot be a key.

    :ivar calls: of the object store, for the metrics.
    """

    calls: CallTimes

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object; it replaces one with the same key. It is durable on return; readers never see half of it."""

    async def get(self, key: str, *, max_bytes: int = MAX_GET_BYTES) -> bytes:
        """Read an object.

        :raises ObjectMissing: if it does not exist.
        :raises ObjectTooLarge: if it has more bytes than `max_bytes`.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, at most `MAX_PAGE`; a key without an object is not an error. After an error, any of them may
        be gone."""

    async def list(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> Listing:
        """A page of the objects whose keys begin with `prefix`, in order of their keys' bytes.

        :param after: only keys beyond this one; the last key of the page before.
        :param limit: the size of the page; only the last page has fewer.
        """


async def walk(objects: Objects, prefix: str, after: str = "") -> AsyncIterator[StoredObject]:
    """All objects whose keys begin with `prefix`, in order, page by page."""
    while True:
        page = await objects.list(prefix, after, MAX_PAGE)
        for entry in page:
            yield entry
        if len(page) < MAX_PAGE:
            return
        after = page[-1].key


async def usage(objects: Objects, prefix: str = "") -> Usage:
    """The number and size of the objects below a prefix; lists all of them."""
    count = size_bytes = 0
    async for entry in walk(objects, prefix):
        count += 1
        size_bytes += entry.size_bytes
    return Usage(count, size_bytes)


def is_key(key: str) -> bool:
    """Whether the text can be the key of an object."""
    is_short = len(key) <= MAX_KEY_BYTES and all(len(part) <= MAX_PART_BYTES for part in key.split("/"))
    return is_short and _KEY.fullmatch(key) is not None


def check_key(key: str) -> str:
    """
    :raises BadKey: if the text cannot be a key.
    """
    if not is_key(key):
        raise BadKey(key)
    return key


def check_prefix(prefix: str) -> str:
    """
    :raises BadKey: if no key can begin like that.
    """
    if len(prefix) > MAX_KEY_BYTES or not _PREFIX.fullmatch(prefix):
        raise BadKey(prefix)
    return prefix
