"""The pages that links in mails lead to. They have no data of the user, and their button posts to the same address."""

from __future__ import annotations

from typing import Final

from protocol.limits import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS
from server.http.routing import HtmlAnswer

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


_PASSWORD_FORM: Final = (
    '<form method="post"><p><input type="password" name="new_password" autocomplete="new-password" required'
    f' minlength="{MIN_PASSWORD_CHARACTERS}" maxlength="{MAX_PASSWORD_CHARACTERS}" aria-label="New password"></p>\n'
    "<button>Set the password</button></form>\n"
)


def page(html: str, status: int = 200) -> HtmlAnswer:
    """One of the pages below, as an answer."""
    return HtmlAnswer(html, HEADERS, status)


def _page(text: str, button: str = "") -> str:
    return _with_form(text, _FORM.format(button=button) if button else "")


def _with_form(text: str, form: str) -> str:
    return _PAGE.format(text=text, form=form)


VERIFY: Final = _page("Is this your address?", "It is mine")
VERIFIED: Final = _page("Your address is confirmed.")
EXPIRED: Final = _page("This link is too old. Enter your address in the app again to get a new link.")
UNKNOWN: Final = _page("This link is no longer valid: the address was changed or removed.")
UNSUBSCRIBE: Final = _page("Stop the digests of unread messages?", "Unsubscribe")
UNSUBSCRIBED: Final = _page("You will get no more digests. You can turn them on again in the app.")

RESET: Final = _with_form("Choose another password. All devices will be logged out.", _PASSWORD_FORM)
RESET_AGAIN: Final = _with_form(
    f"A password has {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters, and is not easy to guess."
    " Choose another one.",
    _PASSWORD_FORM,
)
RESET_DONE: Final = _page("The password is set, and all devices are logged out. Log in with it in the app.")
RESET_EXPIRED: Final = _page("This link is too old. Ask for a new one in the app.")
RESET_UNKNOWN: Final = _page(
    "This link is no longer valid: it was used, or the password or the address has changed since."
)
