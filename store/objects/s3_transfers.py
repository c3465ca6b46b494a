"""Direct transfers with an S3-compatible service: presigned requests, and multipart uploads with SHA-256 of each part.

`docs/decisions/0042-presigned-requests-of-s3.md` says what services check of a presigned request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from store.errors import ObjectDiffers, ObjectMissing
from store.objects.bucket import Bucket
from store.objects.direct import ObjectState, OpenMultipart, Part, PresignedRequest, check_part, missing_parts
from store.objects.interface import MAX_PAGE, check_key, check_prefix
from store.objects.s3_replies import (
    StoredPart,
    base64_of,
    code_of,
    digest_of,
    join_of,
    parse,
    read_multiparts,
    read_parts,
    read_upload,
)
from store.objects.s3_requests import BUSY_CODES, ServiceRequests
from store.objects.service_clock import amz_date
from store.objects.sigv4 import presigned_query

CONTENT_TYPE: Final = "application/octet-stream"

JOIN_ERRORS: Final = frozenset({"BadDigest", "InvalidPart", "NoSuchUpload"})
"""Codes of a join that have the status 400 or 404, or 200."""

_T = TypeVar("_T")


class S3Transfers:
    """The calls of `store.objects.direct.DirectTransfers`.

    An answer to a presigned download has no `nosniff`: S3 lets a request choose only the headers that it names.
    """

    joined_have_digests = True

    def __init__(self, bucket: Bucket, requests: ServiceRequests) -> None:
        self._bucket = bucket
        self._requests = requests

    def __str__(self) -> str:
        return str(self._bucket)

    def presign_get(self, key: str, *, expires_s: int, shown_as: str | None = None) -> PresignedRequest:
        query = {
            "response-content-disposition": "inline" if shown_as else "attachment",
            "response-content-type": shown_as or CONTENT_TYPE,
        }
        return self._presign("GET", key, query, {}, expires_s)

    def presign_put(self, key: str, part: Part, *, expires_s: int) -> PresignedRequest:
        return self._presign("PUT", key, {}, put_headers(part), expires_s)

    def presign_part(self, key: str, upload: str, part: Part, *, expires_s: int) -> PresignedRequest:
        query = {"partNumber": str(part.number), "uploadId": upload}
        return self._presign("PUT", key, query, put_headers(part), expires_s)

    async def begin_multipart(self, key: str) -> str:
        return await self._begin(key, {"content-type": CONTENT_TYPE, "x-amz-checksum-algorithm": "SHA256"})

    async def _begin(self, key: str, headers: Mapping[str, str]) -> str:
        answer = await self._requests.ask("POST", check_key(key), query={"uploads": ""}, headers=headers)
        upload = self._read("answer", read_upload, answer.body)
        if not upload:
            raise self._requests.refusal("it gives a multipart upload no name")
        return upload

    async def list_parts(self, key: str, upload: str) -> list[Part]:
        with self._requests.deadline():
            return [each.part for each in await self._stored_parts(check_key(key), upload)]

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """An object that differs stays: a call at the same time may have seen the right one, and a message have it."""
        with self._requests.deadline():
            await self._join(key, upload, parts)
            digest = (await self.stat(key)).digest
        if digest is None:
            raise self._requests.refusal("it keeps no SHA-256 of objects that are uploaded in parts")
        if digest != sha256(b"".join(part.digest for part in parts)).digest():
            raise ObjectDiffers(key)

    async def abort_multipart(self, key: str, upload: str) -> None:
        try:
            await self._requests.ask("DELETE", check_key(key), query={"uploadId": upload})
        except ObjectMissing:
            return

    async def list_multiparts(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> list[OpenMultipart]:
        return page_of(await self._multiparts(check_prefix(prefix)), after, limit)

    async def _multiparts(self, prefix: str) -> list[OpenMultipart]:
        """All multipart uploads. The list is read from its beginning for each page: not every service has it in order
        of keys."""
        query = {"uploads": "", "prefix": prefix, "max-uploads": str(MAX_PAGE)}
        found: list[OpenMultipart] = []
        with self._requests.deadline():
            while True:
                answer = await self._requests.ask("GET", "", query=query)
                page = self._read("list", read_multiparts, answer.body)
                found += page.uploads
                if not page.after or not page.uploads:
                    return found
                query |= page.after

    async def remove_unfinished(self) -> None:
        """A service keeps nothing of a PUT that was broken off; parts are in the list of multipart uploads."""

    async def stat(self, key: str) -> ObjectState:
        answer = await self._requests.ask("HEAD", check_key(key), headers={"x-amz-checksum-mode": "ENABLED"})
        checksum = answer.headers.get("x-amz-checksum-sha256", "")
        digest = self._read("checksum", digest_of, checksum) if checksum else None
        return ObjectState(self._read("size", int, answer.headers.get("content-length", "")), digest)

    async def _join(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        stored = await self._stored_parts(check_key(key), upload)
        if missing_parts(parts, [each.part for each in stored]):
            raise ObjectDiffers(key)
        await self._send_join(key, upload, join_of(parts, {each.part.number: each.etag for each in stored}))

    async def _send_join(self, key: str, upload: str, body: bytes) -> None:
        """
        :raises ObjectMissing: if the service does not know the multipart upload.
        :raises ObjectDiffers: if a part has another digest there.
        """
        headers = {"content-type": "application/xml"}
        query = {"uploadId": upload}
        answer = await self._requests.ask("POST", key, query=query, body=body, headers=headers, errors=JOIN_ERRORS)
        # An error may have the status 200: a service begins its answer before it joins, and sends spaces meanwhile.
        reply = answer.body.strip()
        match code_of(reply):
            case "NoSuchUpload":
                raise ObjectMissing(key)
            case "BadDigest":
                raise ObjectDiffers(key)
            case "":
                if self._read("answer", parse, reply).tag != "CompleteMultipartUploadResult":
                    raise self._requests.refusal("it does not say that it has joined the parts")
            case code:
                raise self._requests.refusal(f"it joins no parts: {code}", may_pass=code in BUSY_CODES)

    async def _stored_parts(self, key: str, upload: str) -> list[StoredPart]:
        found: list[StoredPart] = []
        query = {"uploadId": upload, "max-parts": str(MAX_PAGE)}
        while True:
            answer = await self._requests.ask("GET", key, query=query)
            page = self._read("list", read_parts, answer.body)
            found += page.parts
            if not page.after or not page.parts:
                return found
            query["part-number-marker"] = page.after

    def _presign(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], expires_s: int
    ) -> PresignedRequest:
        url = self._bucket.clients_url
        path = self._bucket.path(check_key(key))
        signed = presigned_query(
            method,
            path,
            query,
            {**headers, "host": urlsplit(url).netloc},
            credentials=self._bucket.credentials,
            date=amz_date(self._requests.clock.now()),
            expires_s=expires_s,
        )
        return PresignedRequest(method, f"{url}{path}?{signed}", headers)

    def _read(self, what: str, reader: Callable[[Any], _T], value: object) -> _T:
        try:
            return reader(value)
        except ValueError as error:
            raise self._requests.refusal(f"its {what} cannot be read ({error})") from None


def page_of(found: Iterable[OpenMultipart], after: str, limit: int) -> list[OpenMultipart]:
    """The page of `list_multiparts` that follows a key."""
    following = sorted((each for each in found if each.key > after), key=lambda each: (each.key, each.upload))
    if len(following) <= limit:
        return following
    # With the other uploads of its last key: the next page begins beyond that key.
    return [each for each in following if each.key <= following[limit - 1].key]


def put_headers(part: Part) -> dict[str, str]:
    """The headers with which a part is uploaded.

    :raises ValueError: if no part can have this number and size.
    """
    check_part(part)
    return {"content-length": str(part.size_bytes), "x-amz-checksum-sha256": base64_of(part.digest)}
