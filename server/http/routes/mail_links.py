"""Pages that the links in mails lead to. A GET changes nothing, because programs follow links, such as scanners."""

from __future__ import annotations

from server.http import mail_pages
from server.http.routing import NOTHING, HtmlAnswer, Request, Routes
from server.http.sources import source_of
from store import emails
from store.errors import UnsubscribeUnknown, VerificationExpired, VerificationUnknown

routes = Routes()


@routes.page("GET /v1/email/verifications/<token>")
async def show_verification(request: Request[None], token: str) -> HtmlAnswer:
    """Show the page with a button that verifies an address."""
    return mail_pages.page(mail_pages.VERIFY)


@routes.page("POST /v1/email/verifications/<token>", announces=NOTHING, statuses=[200, 404, 410])
async def verify_on_page(request: Request[None], token: str) -> HtmlAnswer:
    """Verify an address from its page."""
    try:
        await emails.verify(request.services.pool, token, source=source_of(request))
    except VerificationUnknown:
        return mail_pages.page(mail_pages.UNKNOWN, 404)
    except VerificationExpired:
        return mail_pages.page(mail_pages.EXPIRED, 410)
    return mail_pages.page(mail_pages.VERIFIED)


@routes.page("GET /v1/unsubscribe/<token>")
async def show_unsubscription(request: Request[None], token: str) -> HtmlAnswer:
    """Show the page with a button that ends the digests."""
    return mail_pages.page(mail_pages.UNSUBSCRIBE)


@routes.page("POST /v1/unsubscribe/<token>", announces=NOTHING, statuses=[200, 404])
async def unsubscribe(request: Request[None], token: str) -> HtmlAnswer:
    """End the digests of a user (RFC 8058)."""
    try:
        await emails.unsubscribe(request.services.pool, token)
    except UnsubscribeUnknown:
        return mail_pages.page(mail_pages.UNKNOWN, 404)
    return mail_pages.page(mail_pages.UNSUBSCRIBED)
