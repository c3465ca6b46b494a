"""Direct transfers: requests that an object store has signed, with which clients themselves upload and download files.

An upload has one part (one PUT), or is an S3 *multipart upload*: parts in any order, in parallel, and one call that
joins them. Each signed PUT names the length and the SHA-256 of its part, and the object store refuses other bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from protocol import limits
from store.objects.interface import MAX_PAGE, Objects

SHOWN_TYPES: Final = ("image/jpeg", "image/png", "image/webp")
"""The media types that a download may have instead of `application/octet-stream`: pictures that hold no script."""


MAX_NUMBER: Final = 10_000
"""The greatest number of a part, as in S3."""


class Part(Struct, frozen=True):
    """A part of a file.

    :ivar number: from 1.
    :ivar digest: SHA-256, 32 bytes; empty in the list of a store that checks digests of parts, and does not list them.
    """

    number: int
    size_bytes: int
    digest: bytes


class PresignedRequest(Struct, frozen=True):
    """A request that a client may send until its time is over.

    :ivar headers: that the client must send unchanged; in lower case, without `host`.
    """

    method: str
    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        """Without the query, which has the signature."""
        return f"PresignedRequest({self.method} {self.url.partition('?')[0]})"


class ObjectState(Struct, frozen=True):
    """An object as the object store describes it.

    :ivar digest: the store's SHA-256 of an object that one PUT wrote, or of the digests of its parts; None if the store
        keeps none.
    """

    size_bytes: int
    digest: bytes | None


class OpenMultipart(Struct, frozen=True):
    """A multipart upload that is neither complete nor aborted.

    :ivar begun: in microseconds since 1970, by the object store's clock.
    """

    key: str
    upload: str
    begun: int


class DirectTransfers(Protocol):
    """The calls of an object store for direct transfers; they raise as those of `Objects` do.

    Signing needs no request to the object store. `upload` is the object store's name of a multipart upload.

    :ivar joined_have_digests: whether the store tells the digest of each object that it has joined: one without a
        digest is not known to be right. If not, the parts are compared before, and each joined object is right.
    """

    joined_have_digests: bool

    def presign_get(self, key: str, *, expires_s: int, shown_as: str | None = None) -> PresignedRequest:
        """A download; it may be asked for in ranges. The answer is `application/octet-stream` and an attachment; it is
        `nosniff`, too, if the store lets the server say so, which S3 does not.

        :param shown_as: one of `SHOWN_TYPES`: the answer has this type instead, and browsers show it.
        """

    def presign_put(self, key: str, part: Part, *, expires_s: int) -> PresignedRequest:
        """The upload of an object in one part."""

    def presign_part(self, key: str, upload: str, part: Part, *, expires_s: int) -> PresignedRequest:
        """The upload of one part.

        :raises ValueError: if no part can have this number and size; so does `presign_put`.
        """

    async def begin_multipart(self, key: str) -> str:
        """Begin a multipart upload; returns its name."""

    async def list_parts(self, key: str, upload: str) -> list[Part]:
        """The parts that are there, by number; `missing_parts` compares them with those that were declared.

        :raises ObjectMissing: if the multipart upload is unknown, complete or aborted.
        """

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """Join all parts to the object. On return its digest is that of these parts (SHA-256 of their digests).

        :param parts: all of them, by number.
        :raises ObjectMissing: if the multipart upload is unknown, complete or aborted. An earlier call may have
            completed it: `stat` tells.
        :raises ObjectDiffers: if a part is missing or has other bytes: nothing was joined. Or if the store shows
            another digest after the join: whatever is there stays, for the clean-up to judge by the row.
        :raises ObjectStoreRefused: if the store keeps no digest of the object, which stays, too.
        """

    async def abort_multipart(self, key: str, upload: str) -> None:
        """Delete the parts that are there, and take no more; an unknown upload is not an error."""

    async def list_multiparts(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> list[OpenMultipart]:
        """A page of the open multipart uploads whose keys begin with `prefix`, in order of their keys.

        :param after: only those of keys beyond this one; the last key of the page before.
        :param limit: the size of the page; only the last page has fewer. It has more if its last key has more uploads.
        """

    async def remove_unfinished(self) -> None:
        """Remove what writes that a crash broke off a day ago have left, where no list shows it."""

    async def stat(self, key: str) -> ObjectState:
        """The size and the digest of an object.

        :raises ObjectMissing: if it does not exist.
        """


class FileStore(Objects, DirectTransfers, Protocol):
    """An object store that the server and clients use."""


def check_part(part: Part) -> None:
    """
    :raises ValueError: if no part can have this number and size.
    """
    most = limits.ATTACHMENT_PART_BYTES
    if not (0 < part.number <= MAX_NUMBER and 0 < part.size_bytes <= most):
        raise ValueError(
            f"a part has a number of 1 to {MAX_NUMBER} and 1 to {most} bytes, not {part.number} and {part.size_bytes}"
        )


def missing_parts(declared: Sequence[Part], found: Sequence[Part]) -> list[Part]:
    """The declared parts that are not there, or that are there with other bytes."""
    there = {part.number: part for part in found}
    return [part for part in declared if not _is_there(part, there.get(part.number))]


def _is_there(part: Part, found: Part | None) -> bool:
    return found is not None and found.size_bytes == part.size_bytes and found.digest in (part.digest, b"")
