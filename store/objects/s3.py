"""An S3-compatible object store: Cloudflare R2, AWS S3, MinIO and others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import httpx
import structlog
import trio

from store.errors import ObjectMissing, ObjectStoreRefused, Unavailable
from store.objects.bucket import Bucket
from store.objects.interface import MAX_GET_BYTES, MAX_PAGE, Listing, check_key, check_prefix
from store.objects.s3_replies import read_objects
from store.objects.s3_requests import ServiceRequests
from store.objects.s3_transfers import S3Transfers

log = structlog.get_logger(__name__)

CONNECTIONS: Final = 8
"""To the service; more requests wait. Each is a TLS session that stays open."""

CLOCK_S: Final = 600.0
"""Between questions for the service's time: a bad quartz drifts by 60 ms in that time."""

CLOCK_RETRY_S: Final = 10.0
"""After a question without an answer."""


class S3(S3Transfers):
    """Objects in a bucket; `store.objects.interface.Objects` describes the calls.

    :param client: used by this object alone; at most `CONNECTIONS`.
    """

    def __init__(self, bucket: Bucket, client: httpx.AsyncClient) -> None:
        requests = ServiceRequests(bucket, client)
        super().__init__(bucket, requests)
        self.calls = requests.calls

    @property
    def clock_lead_s(self) -> float:
        """How far this machine's clock is ahead of the service's, after an answer; about 0 before the first one."""
        return time.time() - self._requests.clock.now()

    async def keep_time(self) -> None:
        """Until cancelled, ask for the service's time now and then: a process that only signs has no other way."""
        while True:
            try:
                await self._requests.ask("HEAD", "")
            except ObjectStoreRefused as error:
                # Its answer has a date all the same.
                log.warning("object_store_refuses", error=str(error))
            except Unavailable as error:
                log.warning("object_store_is_away", error=str(error))
                await trio.sleep(CLOCK_RETRY_S)
                continue
            await trio.sleep(CLOCK_S)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        await self._requests.ask("PUT", check_key(key), body=data, headers={"content-type": content_type})

    async def get(self, key: str, *, max_bytes: int = MAX_GET_BYTES) -> bytes:
        return (await self._requests.ask("GET", check_key(key), max_bytes=max_bytes)).body

    async def delete(self, keys: Sequence[str]) -> None:
        """One request for each key, several at a time: not every service has S3's request for many."""
        assert len(keys) <= MAX_PAGE
        left = list(map(check_key, reversed(keys)))

        errors: list[Unavailable | ObjectStoreRefused] = []

        async def delete_some() -> None:
            try:
                while left and not errors:
                    await self._delete(left.pop())
            except (Unavailable, ObjectStoreRefused) as error:
                errors.append(error)

        with self._requests.deadline():
            async with trio.open_nursery() as nursery:
                for _ in range(min(CONNECTIONS, len(left))):
                    nursery.start_soon(delete_some)
        if errors:
            raise errors[0]

    async def list(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> Listing:
        return self._read("list", read_objects, await self._listed(check_prefix(prefix), after, limit))

    async def _listed(self, prefix: str, after: str, limit: int) -> bytes:
        """The answer to ListObjectsV2."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(min(limit, MAX_PAGE))}
        if after:
            query["start-after"] = after
        return (await self._requests.ask("GET", "", query=query)).body

    async def _delete(self, key: str) -> None:
        try:
            await self._requests.ask("DELETE", key)
        except ObjectMissing:
            return
