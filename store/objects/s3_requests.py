"""Requests to an S3-compatible service over httpx: signed, with a deadline, and with errors of `store.errors`."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx
import trio
from msgspec import Struct

from store.errors import ObjectMissing, ObjectStoreRefused, ObjectTooLarge, Unavailable
from store.objects.bucket import Bucket
from store.objects.calls import CallTimes
from store.objects.interface import TIMEOUT_S
from store.objects.s3_replies import code_of
from store.objects.service_clock import ServiceClock, amz_date
from store.objects.sigv4 import encoded, signed_headers

MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""The size of a list or an error: 1,000 keys of 1,024 bytes, with their other fields, have 2 MB."""

BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which a retry may help: rate limits, two writers of one key, and faults."""

BUSY_CODES: Final = frozenset(
    {"InternalError", "InvalidPart", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
)
"""Codes of the same errors of a join. InvalidPart: the same bytes have been written again meanwhile."""

MAX_DRIFT_S: Final = 60.0
"""A refused request is sent again if its date was off by more. Services refuse a date that is 15 minutes off."""


class ServiceAnswer(Struct, frozen=True):
    """An answer of the service.

    :ivar code: S3's code, if it is an error.
    """

    status: int
    code: str
    headers: Mapping[str, str]
    body: bytes


class ServiceRequests:
    """Sends requests to a service.

    :param client: used by this object alone.
    :ivar clock: the service's.
    :ivar calls: by method of HTTP.
    """

    def __init__(self, bucket: Bucket, client: httpx.AsyncClient) -> None:
        self._bucket = bucket
        self._client = client
        self.clock = ServiceClock(str(bucket))
        self.calls = CallTimes()

    async def ask(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_REPLY_BYTES,
        errors: Container[str] = (),
    ) -> ServiceAnswer:
        """The answer to one request.

        :param key: of an object; empty for the bucket.
        :param errors: codes of errors that are answers, too.
        :raises ObjectMissing: if the service has no such object, or no such multipart upload.
        :raises ObjectTooLarge: if the body is longer than `max_bytes`.
        :raises Unavailable: if there is no answer in time, or a retry may help.
        :raises ObjectStoreRefused: at any other error.
        """
        with self.calls.measured(method):
            return await self._ask(method, key, query or {}, body, headers or {}, max_bytes, errors)

    async def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
        max_bytes: int,
        errors: Container[str],
    ) -> ServiceAnswer:
        try:
            with self.deadline():
                answer = await self._exchange(method, key, query, body, headers, max_bytes)
        except httpx.HTTPError as error:
            raise Unavailable("the object store", str(self._bucket), f"{type(error).__name__}: {error}") from None
        if 200 <= answer.status < 300:
            if len(answer.body) > max_bytes:
                raise ObjectTooLarge(key, max_bytes)
            return answer
        if answer.code in errors:
            return answer
        if answer.status == 404 and key and answer.code != "NoSuchBucket":
            raise ObjectMissing(key)
        raise self.refusal(f"status {answer.status} {answer.code}".rstrip(), may_pass=answer.status in BUSY)

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """The deadline of one call, which may send several requests.

        :raises Unavailable: at the deadline.
        """
        try:
            with trio.fail_after(TIMEOUT_S):
                yield
        except trio.TooSlowError:
            raise self.refusal(f"no answer within {TIMEOUT_S:g} s", may_pass=True) from None

    def refusal(self, detail: str, *, may_pass: bool = False) -> Unavailable | ObjectStoreRefused:
        """The error to raise.

        :param may_pass: whether a retry may help.
        """
        if may_pass:
            return Unavailable("the object store", str(self._bucket), detail)
        return ObjectStoreRefused(str(self._bucket), detail)

    async def _exchange(
        self, method: str, key: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str], max_bytes: int
    ) -> ServiceAnswer:
        """Sends the request once more if the service may have refused the date. HEAD has no code that says so."""
        signed_at = self.clock.now()
        found = await self._send(method, key, query, body, headers, max_bytes, signed_at)
        if found.status not in (400, 403) or abs(self.clock.now() - signed_at) < MAX_DRIFT_S:
            return found
        return await self._send(method, key, query, body, headers, max_bytes, self.clock.now())

    async def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
        max_bytes: int,
        signed_at: float,
    ) -> ServiceAnswer:
        """Stops reading a body that is too long."""
        bucket = self._bucket
        signed = signed_headers(
            method,
            bucket.path(key),
            query,
            {**headers, "host": bucket.host},
            body,
            credentials=bucket.credentials,
            date=amz_date(signed_at),
        )
        url = bucket.url + bucket.path(key) + (f"?{encoded(query)}" if query else "")
        # Not signed: some services change this header, and then refuse the signature.
        signed["accept-encoding"] = "identity"
        data = bytearray()
        async with self._client.stream(method, url, content=body, headers=signed) as response:
            self.clock.measure(response.headers.get("date", ""))
            # Not left by `break`: the generators inside httpx would stay open.
            with trio.CancelScope() as enough:
                async for chunk in response.aiter_raw():
                    data += chunk
                    if len(data) > max_bytes:
                        enough.cancel()
        status = response.status_code
        return ServiceAnswer(status, "" if status < 300 else code_of(bytes(data)), response.headers, bytes(data))
