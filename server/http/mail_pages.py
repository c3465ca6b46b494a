"""The pages that links in mails lead to. They have no data of the user, and their button posts to the same address."""

from __future__ import annotations

from typing import Final

HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    # The address of the page is a secret: the browser sends it to no other site, and no cache keeps the page.
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    # The page loads and runs nothing, and no other page can frame it to have its button pressed.
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
}

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>ALO Shield</title></head>
<body style="max-width: 480px; margin: 48px auto; padding: 0 24px; font: 16px/1.5 sans-serif">
<p>{text}</p>
{form}</body>
</html>
"""
_FORM: Final = '<form method="post"><button name="List-Unsubscribe" value="One-Click">{button}</button></form>\n'


def _page(text: str, button: str = "") -> str:
    return _PAGE.format(text=text, form=_FORM.format(button=button) if button else "")


VERIFY: Final = _page("Is this your address?", "It is mine")
VERIFIED: Final = _page("Your address is confirmed.")
EXPIRED: Final = _page("This link is too old. Enter your address in the app again to get a new link.")
UNKNOWN: Final = _page("This link is no longer valid: the address was changed or removed.")
UNSUBSCRIBE: Final = _page("Stop the digests of unread messages?", "Unsubscribe")
UNSUBSCRIBED: Final = _page("You will get no more digests. You can turn them on again in the app.")
