"""An S3-compatible object store: Cloudflare R2, AWS S3, MinIO and others, over httpx."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from xml.etree import ElementTree

import httpx
import trio

from store.errors import ObjectMissing, ObjectStoreRefused, ObjectTooLarge, Unavailable
from store.objects.interface import MAX_GET_BYTES, MAX_PAGE, TIMEOUT_S, Listing, StoredObject, check_key, check_prefix
from store.objects.sigv4 import encoded, signed_headers

CONNECTIONS: Final = 8
"""To the service; more requests wait. Each is a TLS session that stays open."""

MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""The size of a list or an error: 1,000 keys of 1,024 bytes, with their other fields, have 2 MB."""

BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which a retry may help: rate limits, two writers of one key, and faults."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket, and the credentials for it.

    :ivar host: with its port, unless it is the scheme's.
    """

    host: str
    name: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    tls: bool = True

    def __str__(self) -> str:
        """For logs, without the credentials."""
        return f"{self.host}/{self.name}"


class S3:
    """Objects in a bucket; `store.objects.interface.Objects` describes the calls.

    The bucket is part of the path, not of the host name: every service accepts that form.

    :param client: used by this object alone; at most `CONNECTIONS`.
    """

    def __init__(self, bucket: Bucket, client: httpx.AsyncClient) -> None:
        self._bucket = bucket
        self._client = client

    def __str__(self) -> str:
        return str(self._bucket)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await self._ask("PUT", check_key(key), body=data, headers={"content-type": content_type})

    async def get(self, key: str, *, max_bytes: int = MAX_GET_BYTES) -> bytes:
        return await self._ask("GET", check_key(key), max_bytes=max_bytes)

    async def delete(self, keys: Sequence[str]) -> None:
        """One request for each key, several at a time: not every service has S3's request for many."""
        assert len(keys) <= MAX_PAGE
        left = list(map(check_key, reversed(keys)))

        errors: list[Unavailable | ObjectStoreRefused] = []

        async def delete_some() -> None:
            try:
                while left and not errors:
                    await self._ask("DELETE", left.pop())
            except (Unavailable, ObjectStoreRefused) as error:
                errors.append(error)

        with trio.move_on_after(TIMEOUT_S) as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(min(CONNECTIONS, len(left))):
                    nursery.start_soon(delete_some)
        if errors:
            raise errors[0]
        if scope.cancelled_caught:
            raise self._too_slow()

    async def list(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> Listing:
        query = {"list-type": "2", "prefix": check_prefix(prefix), "max-keys": str(min(limit, MAX_PAGE))}
        if after:
            query["start-after"] = after
        reply = await self._ask("GET", "", query=query, max_bytes=MAX_REPLY_BYTES)
        try:
            return [_stored_object(each) for each in _parse(reply).iter("Contents")]
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise ObjectStoreRefused(str(self), f"its list cannot be read ({error})") from None

    async def _ask(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_REPLY_BYTES,
    ) -> bytes:
        try:
            with trio.fail_after(TIMEOUT_S):
                status, data = await self._exchange(method, key, query or {}, body, headers or {}, max_bytes)
        except trio.TooSlowError:
            raise self._too_slow() from None
        except httpx.HTTPError as error:
            raise Unavailable("the object store", str(self), f"{type(error).__name__}: {error}") from None
        if 200 <= status < 300:
            if len(data) > max_bytes:
                raise ObjectTooLarge(key, max_bytes)
            return data
        code = _code(data)
        if status == 404 and method == "DELETE" and code != "NoSuchBucket":
            return b""
        if status == 404 and key and code != "NoSuchBucket":
            raise ObjectMissing(key)
        if status in BUSY:
            raise Unavailable("the object store", str(self), f"status {status} {code}".rstrip())
        raise ObjectStoreRefused(str(self), f"status {status} {code}".rstrip())

    async def _exchange(
        self, method: str, key: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str], max_bytes: int
    ) -> tuple[int, bytes]:
        """Status and body; stops reading a body that is too long."""
        bucket = self._bucket
        path = f"/{bucket.name}/{key}" if key else f"/{bucket.name}"
        signed = signed_headers(
            method,
            path,
            query,
            {**headers, "host": bucket.host},
            body,
            access_key=bucket.access_key,
            secret_key=bucket.secret_key,
            region=bucket.region,
            date=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        )
        url = f"{'https' if bucket.tls else 'http'}://{bucket.host}{path}"
        if query:
            url += f"?{encoded(query)}"
        # Not signed: some services change this header, and then refuse the signature.
        signed["accept-encoding"] = "identity"
        data = bytearray()
        async with self._client.stream(method, url, content=body, headers=signed) as response:
            # Not left by `break`: the generators inside httpx would stay open.
            with trio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    data += chunk
                    if len(data) > max_bytes:
                        enough.cancel()
        return response.status_code, bytes(data)

    def _too_slow(self) -> Unavailable:
        return Unavailable("the object store", str(self), f"no answer within {TIMEOUT_S:g} s")


def _parse(reply: bytes) -> ElementTree.Element:
    """Without namespaces: some services leave them out."""
    # Expat limits the size of entities, and the operator has chosen the service.
    root = ElementTree.fromstring(reply)  # noqa: S314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _stored_object(element: ElementTree.Element) -> StoredObject:
    key, size_bytes, modified = (element.findtext(name) or "" for name in ("Key", "Size", "LastModified"))
    return StoredObject(key, int(size_bytes), round(datetime.fromisoformat(modified).timestamp() * 1_000_000))


def _code(reply: bytes) -> str:
    """S3's code of an error; empty if the reply has none."""
    try:
        code = _parse(reply).findtext("Code") or ""
    except ElementTree.ParseError:
        return ""
    return code if code.isalnum() and len(code) < 64 else ""
