"""The webhook: told that something waits for a user, never what."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import httpx
import structlog
import trio

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 10.0
"""For the whole call; shorter than `queue.TAKE_OVER_AFTER_S`."""


class NotifyError(Exception):
    """The webhook did not take the notice; worth another attempt. The text says why."""


class Webhook:
    """POSTs notices as JSON to one URL: `{"type": "offline_notice", "notice": ID, "user": UUID}`.

    `notice` names the notice: the same one again is a repetition (its answer got lost) and may be ignored.

    :param url: empty for none: notices are logged.
    """

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def notify(self, notice: str, user: bytes) -> None:
        """
        :raises NotifyError: on any answer but 2xx, or none within `TIMEOUT_S`.
        """
        body = {"type": "offline_notice", "notice": notice, "user": str(UUID(bytes=user))}
        if not self._url:
            log.info("offline_notice", **body)
            return
        try:
            # httpx' own deadlines are for each read: an answer that trickles would keep to them for ever.
            with trio.fail_after(TIMEOUT_S):
                response = await self._client.post(self._url, json=body, timeout=None)
        except trio.TooSlowError:
            raise NotifyError(f"no answer within {TIMEOUT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotifyError(f"{type(error).__name__}: {error}") from None
        if not response.is_success:
            raise NotifyError(f"status {response.status_code}")
