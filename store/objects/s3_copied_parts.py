"""Multipart uploads with a service that takes no SHA-256 of parts, such as Cloudflare R2.

Each part is an object of its own, below `PARTS`. One presigned PUT writes it, and the service checks its length and its
SHA-256 as it checks those of every object. To join them, the service copies them into a multipart upload
(UploadPartCopy). The tag of an object that one PUT wrote is the MD5 of its bytes, the tag of a part is, too, and that
of the joined object is the MD5 of these: so each copy, and the object, is compared with what the service has checked.
`docs/decisions/0051-parts-that-are-copied.md` has the reasons.

A multipart upload begins as with any other service, and its name is the service's. The objects of its parts lie in a
folder of its own, and go after the join. If they stay, or come later, `list_multiparts` shows the folder as a multipart
upload under a name that no service gives (`_FOLDER`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import md5, sha256
from typing import Final
from urllib.parse import quote

import structlog
import trio
from msgspec import Struct

from store.errors import ObjectDiffers, ObjectMissing, StoreError, Unavailable
from store.objects.direct import OpenMultipart, Part, PresignedRequest, missing_parts
from store.objects.interface import MAX_PAGE, check_key, check_prefix, walk
from store.objects.s3 import S3
from store.objects.s3_replies import code_of, join_of, read_copy, read_objects, read_tags
from store.objects.s3_requests import BUSY_CODES
from store.objects.s3_transfers import CONTENT_TYPE, page_of, put_headers

log = structlog.get_logger(__name__)

PARTS: Final = "parts/"
"""The prefix of the objects that are parts: `parts/KEY/FOLDER/NUMBER-SIZE-DIGEST`."""

COPIES_AT_ONCE: Final = 4
"""Copies at the same time for one file: half of the connections. 2 GiB are 256 copies; what a request does not finish
in its time, the next one finds done."""

JOIN_PAUSES_S: Final = (0.1, 0.4, 1.6, 0.0)
"""Between attempts to join: a service refuses a join (InvalidPart) while another request copies the same parts."""

REMOVAL_S: Final = 2.0
"""For the removal of parts after the join. What is left of them goes with the daily clean-up."""

_PART: Final = re.compile(
    r"parts/(?P<key>.+)/(?P<folder>[0-9a-f]{32})/(?P<number>\d{5})-(?P<size>\d+)-(?P<digest>[0-9a-f]{64})"
)
_FOLDER: Final = re.compile("parts:([0-9a-f]{32})")


class PartObject(Struct, frozen=True):
    """An object that is a part.

    :ivar etag: MD5 of its bytes, in hexadecimal.
    """

    key: str
    part: Part
    etag: str


class CopyingS3(S3):
    """As `S3`; parts are objects first."""

    joined_have_digests = False

    def presign_part(self, key: str, upload: str, part: Part, *, expires_s: int) -> PresignedRequest:
        name = f"{part.number:05d}-{part.size_bytes}-{part.digest.hex()}"
        target = check_key(f"{_parts_of(key, _folder_of(upload))}{name}")
        return self._presign("PUT", target, {}, put_headers(part), expires_s)

    async def begin_multipart(self, key: str) -> str:
        return await self._begin(key, {"content-type": CONTENT_TYPE})

    async def list_parts(self, key: str, upload: str) -> list[Part]:
        with self._requests.deadline():
            found, _ = await self._found(check_key(key), upload)
        return [each.part for each in found]

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """What is copied when this is cancelled or fails is not copied again."""
        check_key(key)
        with self._requests.deadline():
            for pause_s in JOIN_PAUSES_S:
                wanted = await self._copied(key, upload, parts)
                etags = {each.part.number: f'"{each.etag}"' for each in wanted}
                try:
                    await self._send_join(key, upload, join_of(parts, etags, has_digests=False))
                except Unavailable:
                    # Another request has copied the same parts at the same time, and perhaps joined them.
                    if not pause_s:
                        raise
                    await trio.sleep(pause_s)
                else:
                    break
            await self._check_joined(key, wanted)
            await self._remove_parts(key, upload)

    async def abort_multipart(self, key: str, upload: str) -> None:
        folder = _FOLDER.fullmatch(upload)
        if folder is None:
            await super().abort_multipart(key, upload)
        with self._requests.deadline():
            await self._remove_folder(_parts_of(key, folder[1] if folder else _folder_of(upload)))

    async def list_multiparts(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> list[OpenMultipart]:
        """With the folders of parts whose multipart upload is over, or which the service does not list."""
        with self._requests.deadline():
            found = await self._multiparts(check_prefix(prefix))
            known = {(each.key, _folder_of(each.upload)) for each in found}
            begun: dict[tuple[str, str], int] = {}
            async for entry in walk(self, PARTS + prefix, f"{PARTS}{after}" if after else ""):
                if (name := _PART.fullmatch(entry.key)) and (name["key"], name["folder"]) not in known:
                    place = name["key"], name["folder"]
                    begun[place] = min(entry.modified, begun.get(place, entry.modified))
        left = [OpenMultipart(key, f"parts:{folder}", first) for (key, folder), first in begun.items()]
        return page_of([*found, *left], after, limit)

    async def _copied(self, key: str, upload: str, parts: Sequence[Part]) -> list[PartObject]:
        """The objects of these parts, by number, once all of them are copied.

        :raises ObjectDiffers: if one is missing.
        """
        found, copied = await self._found(key, upload)
        if missing_parts(parts, [each.part for each in found]):
            raise ObjectDiffers(key)
        wanted = [each for each in found if each.part in parts]
        await self._copy([each for each in wanted if copied.get(each.part.number) != each.etag], key, upload)
        return wanted

    async def _found(self, key: str, upload: str) -> tuple[list[PartObject], dict[int, str]]:
        """The parts that are there, by number, and the tags of those that are copied.

        :raises ObjectMissing: if the service does not know the multipart upload: its parts may be gone. It is asked
            last, since a join and an abort end the upload before they remove parts.
        """
        found = await self._part_objects(key, upload)
        return found, {each.part.number: _bare(each.etag) for each in await self._stored_parts(key, upload)}

    async def _part_objects(self, key: str, upload: str) -> list[PartObject]:
        """By number. An object whose size is not that of its name is none."""
        found: list[PartObject] = []
        prefix = after = _parts_of(key, _folder_of(upload))
        while True:
            reply = await self._listed(prefix, after, MAX_PAGE)
            page, tags = self._read("list", read_objects, reply), self._read("list", read_tags, reply)
            for entry in page:
                name = _PART.fullmatch(entry.key)
                if name and int(name["size"]) == entry.size_bytes:
                    part = Part(int(name["number"]), entry.size_bytes, bytes.fromhex(name["digest"]))
                    found.append(PartObject(entry.key, part, _bare(tags[entry.key])))
            if len(page) < MAX_PAGE:
                return found
            after = page[-1].key

    async def _copy(self, parts: Sequence[PartObject], key: str, upload: str) -> None:
        """Have the service copy parts into the multipart upload, some at a time.

        :raises ObjectMissing: if one is gone: another request has joined them, and removed it.
        """
        left = list(reversed(parts))
        errors: list[StoreError] = []

        async def copy() -> None:
            try:
                while left and not errors:
                    await self._copy_one(left.pop(), key, upload)
            except StoreError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(COPIES_AT_ONCE, len(left))):
                nursery.start_soon(copy)
        if errors:
            raise errors[0]

    async def _copy_one(self, source: PartObject, key: str, upload: str) -> None:
        query = {"partNumber": str(source.part.number), "uploadId": upload}
        # Without a slash before the bucket, which R2 takes for a bucket without a name.
        headers = {"x-amz-copy-source": quote(self._bucket.path(source.key).removeprefix("/"))}
        reply = (await self._requests.ask("PUT", key, query=query, headers=headers)).body.strip()
        # Like a join, a copy that fails late has the status 200.
        if code := code_of(reply):
            if code in ("NoSuchKey", "NoSuchUpload"):
                raise ObjectMissing(key)
            raise self._requests.refusal(f"it copies no part: {code}", may_pass=code in BUSY_CODES)
        if _bare(self._read("answer", read_copy, reply)) != source.etag:
            raise self._requests.refusal("the copy of a part has another tag than the part")

    async def _check_joined(self, key: str, parts: Sequence[PartObject]) -> None:
        """Compare the size and the tag of the object with those of its parts.

        :raises ObjectDiffers: if they differ. The object stays, as with `S3`.
        """
        answer = await self._requests.ask("HEAD", key)
        tag = md5(b"".join(bytes.fromhex(each.etag) for each in parts), usedforsecurity=False).hexdigest()
        size_bytes = sum(each.part.size_bytes for each in parts)
        if (_bare(answer.headers.get("etag", "")), answer.headers.get("content-length", "")) != (
            f"{tag}-{len(parts)}",
            str(size_bytes),
        ):
            raise ObjectDiffers(key)

    async def _remove_parts(self, key: str, upload: str) -> None:
        """After the join, in a short time: the object is whole, whatever becomes of its parts."""
        try:
            with trio.move_on_after(REMOVAL_S):
                await self._remove_folder(_parts_of(key, _folder_of(upload)))
        except StoreError as error:
            log.warning("parts_left", key=key, error=str(error))

    async def _remove_folder(self, prefix: str) -> None:
        while page := await self.list(prefix):
            await self.delete([each.key for each in page])


def _folder_of(upload: str) -> str:
    """The folder of a multipart upload's parts. Its name would not always be part of a key."""
    return sha256(upload.encode()).hexdigest()[:32]


def _parts_of(key: str, folder: str) -> str:
    return f"{PARTS}{key}/{folder}/"


def _bare(etag: str) -> str:
    """A tag as its bytes are, if it is an MD5: the service quotes it."""
    return etag.strip('"')
