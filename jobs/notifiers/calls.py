"""HTTP calls to foreign services, with a deadline and a bounded answer."""

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
"""For the whole call, including names, connection and TLS; push services answer within one second."""

UNREACHABLE: Final = f"no answer came within {TIMEOUT_S:g} s from a public address with a valid certificate"
"""The one reason that a user sees for a URL without an answer: whether its name exists, its address is inside this
network, or the connection was refused would tell of this network's names and addresses."""

MAX_ANSWER_BYTES: Final = 16 * 1024
"""Read of one answer; the expected answers have a few hundred bytes. A longer answer ends the connection."""

MAX_RETRY_AFTER_S: Final = 86400.0
"""The longest Retry-After that counts: a notice is useless after a day."""


class Response(Struct, frozen=True):
    """An answer with any status."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body if it is a JSON object, else an empty object: a foreign service may send anything."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded = msgspec.json.decode(self.body)
            if isinstance(decoded, dict):
                return decoded
        return {}

    @property
    def is_our_fault(self) -> bool:
        """Whether the service would refuse a repetition too, as push services mean it: 4xx, except "not now"."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)

    def error(self, detail: str = "", *, is_final: bool = False) -> NotifyError:
        """The error to raise for a refusal, with the service's Retry-After."""
        reason = f"status {self.status}" + (f": {detail}" if detail else "")
        retry_after_s = _retry_after_s(self.headers.get("Retry-After", ""))
        return NotifyError(reason, retry_after_s=retry_after_s, is_final=is_final)


async def post(client: httpx.AsyncClient, url: str, content: bytes, headers: Mapping[str, str]) -> Response:
    """POST, and read the answer.

    :raises NotifyError: if no answer comes within `TIMEOUT_S`, for any reason.
    """
    # Without compression, an answer cannot grow after it was counted.
    headers = {**headers, "Accept-Encoding": "identity"}
    body = b""
    try:
        # httpx' own deadlines hold for each read: an answer that trickles would never exceed them.
        with trio.fail_after(TIMEOUT_S):
            async with client.stream("POST", url, content=content, headers=headers, timeout=None) as response:
                # Cancelled instead of left: this ends all nested generators of httpx.
                with trio.CancelScope() as reading:
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) > MAX_ANSWER_BYTES:
                            reading.cancel()
    except trio.TooSlowError:
        raise NotifyError(f"no answer within {TIMEOUT_S:g} s", shown=UNREACHABLE) from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise NotifyError(f"{type(error).__name__}: {error}", shown=UNREACHABLE) from None
    return Response(response.status_code, response.headers, body)


def _retry_after_s(text: str) -> float | None:
    """The seconds of a Retry-After header (RFC 9110, section 10.2.3); None if it is invalid."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
