"""Webhooks: a POST tells how many messages wait for a user. It is signed, so that the receiver can verify the sender.

The signature follows Standard Webhooks (standardwebhooks.com), which has libraries to verify it in many languages.
`docs/webhooks.md` explains it, with the check in a few lines of Python.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import httpx
import msgspec

from jobs.notifiers.calls import post
from jobs.notifiers.notifier import WITHDRAWN, Notice, TargetGone
from store.notifiers import WebhookTarget

PREFIX: Final = "whsec_"


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature.

    :param secret: `whsec_` and base64 of the key.
    """
    key = b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, b"%s.%d.%s" % (id_.encode(), timestamp, body), sha256)
    return f"v1,{b64encode(signed).decode()}"


class Webhook:
    """POSTs notices as JSON to a URL.

    `{"type": "offline_notice", "notice": ID, "unread": N, "conversations": N, "user": UUID}`, or, once all of these
    messages are read, `{"type": "withdrawn", "notice": ID, "user": UUID}`.

    :param client: for URLs that users gave, a guarded one (`jobs.notifiers.guard`).
    :param is_forgettable: whether the caller may delete a URL that answers 410.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, is_forgettable: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._is_forgettable = is_forgettable
        self._clock = clock

    async def notify(self, target: WebhookTarget, notice: Notice) -> None:
        """Any status except 2xx is a refusal, redirects included.

        :raises NotifyError: if the URL refuses the notice, or does not answer in time.
        :raises TargetGone: if the URL is gone for good.
        """
        body = msgspec.json.encode({**notice.body, "user": notice.user})
        # The id tells events apart, and the withdrawal is a separate event.
        id_ = f"{notice.id}-{WITHDRAWN}" if notice.is_withdrawn else notice.id
        headers = {"Content-Type": "application/json", "webhook-id": id_}
        if target.secret:
            now = int(self._clock())
            headers |= {
                "webhook-timestamp": str(now),
                "webhook-signature": signature(target.secret, id_, now, body),
            }
        answer = await post(self._client, target.url, body, headers)
        if answer.status == 410 and self._is_forgettable:
            raise TargetGone("status 410")
        if not answer.is_success:
            raise answer.error()
