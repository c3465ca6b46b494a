"""Routes: what links in mails lead to."""

from __future__ import annotations

import trio
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import mail_pages
from server.http.frame import (
    page,
)
from store import emails
from store.errors import (
    UnsubscribeUnknown,
    VerificationExpired,
    VerificationUnknown,
)
from store.postgres.pool import Pool


def add_mail_links(app: QuartTrio, pool: Pool) -> None:
    """What links in mails lead to. A GET changes nothing: programs follow links, to look for harm or to show them."""
    verification, unsubscribing = "/v1/email/verifications/<token>", "/v1/unsubscribe/<token>"

    @app.get(verification)
    async def ask_verify(token: str) -> ResponseReturnValue:
        return page(mail_pages.VERIFY)

    @app.post(verification)
    async def verify_there(token: str) -> ResponseReturnValue:
        try:
            with trio.CancelScope(shield=True):
                await emails.verify(pool, token)
        except VerificationUnknown:
            return page(mail_pages.UNKNOWN, 404)
        except VerificationExpired:
            return page(mail_pages.EXPIRED, 410)
        return page(mail_pages.VERIFIED)

    @app.get(unsubscribing)
    async def ask_unsubscribe(token: str) -> ResponseReturnValue:
        return page(mail_pages.UNSUBSCRIBE)

    @app.post(unsubscribing)
    async def unsubscribe(token: str) -> ResponseReturnValue:
        try:
            with trio.CancelScope(shield=True):
                await emails.unsubscribe(pool, token)
        except UnsubscribeUnknown:
            return page(mail_pages.UNKNOWN, 404)
        return page(mail_pages.UNSUBSCRIBED)
