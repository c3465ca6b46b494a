"""Calls to somebody else's service over HTTP: each ends within a deadline, and is answered in few bytes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec
import trio
from msgspec import Struct

from jobs.notifiers.notifier import NotifyError

TIMEOUT_S: Final = 10.0
"""For the whole call, with names, connection and TLS; push services answer within one second."""

MAX_ANSWER_BYTES: Final = 16 * 1024
"""Read of an answer; those that are understood here have a few hundred. More is cut off with the connection."""

MAX_RETRY_AFTER_S: Final = 86400.0
"""Longer than a day nobody is left alone: the notice would be of no use."""


class Answer(Struct, frozen=True):
    """An answer, whatever its status."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body, if it is a JSON object; else an empty one: it is somebody else's, and may be anything."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = msgspec.json.decode(self.body)
            if isinstance(decoded, dict):
                return decoded
        return {}

    @property
    def is_our_fault(self) -> bool:
        """Whether the same again would be refused again, as push services mean it: 4xx, but for "not now"."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)

    def error(self, detail: str = "", *, is_final: bool = False) -> NotifyError:
        """What to raise of an answer that says no, with the time for which the service wants to be left alone."""
        reason = f"status {self.status}" + (f": {detail}" if detail else "")
        retry_after_s = _retry_after_s(self.headers.get("Retry-After", ""))
        return NotifyError(reason, retry_after_s=retry_after_s, is_final=is_final)


async def post(client: httpx.AsyncClient, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
    """
    :raises NotifyError: if there is no answer within `TIMEOUT_S`, for whatever reason.
    """
    # What is sent uncompressed need not be trusted to be small when it is not.
    headers = {**headers, "Accept-Encoding": "identity"}
    body = b""
    try:
        # httpx' own deadlines are for each read: an answer that trickles would keep to them for ever.
        with trio.fail_after(TIMEOUT_S):
            async with client.stream("POST", url, content=content, headers=headers, timeout=None) as response:
                # Cancelled rather than left: that ends all the generators that httpx has put one into another.
                with trio.CancelScope() as reading:
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) > MAX_ANSWER_BYTES:
                            reading.cancel()
    except trio.TooSlowError:
        raise NotifyError(f"no answer within {TIMEOUT_S:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise NotifyError(f"{type(error).__name__}: {error}") from None
    return Answer(response.status_code, response.headers, body)


def _retry_after_s(text: str) -> float | None:
    """Of a Retry-After header (RFC 9110, section 10.2.3); None if it is none."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
