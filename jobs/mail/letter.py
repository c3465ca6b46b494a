"""The message: text and HTML, with headers that name the sender and say that a machine wrote it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from typing import Final

from jobs.mail.wording import Wording
from runtime.email_address import Sender

_PARTS: Final = SMTP.clone(cte_type="7bit", max_line_length=76)
"""Some servers take 7 bits only; encoded lines have at most 76 characters (RFC 2045, section 6.7)."""

_HEADERS: Final = _PARTS.clone(max_line_length=998)
"""The longest line allowed (RFC 5322, section 2.1.1): a long link that is broken or encoded does not work."""


def message_id(sender: Sender, key: str) -> str:
    """The Message-ID for a key. It is the same for the same key, so that a reader's client recognizes a repetition.

    :param key: of one mail to one address; the id does not reveal it.
    """
    return f"<{sha256(key.encode()).hexdigest()[:32]}@{sender.address.rpartition('@')[2]}>"


def write(sender: Sender, to: str, wording: Wording, *, id: str, unsubscribe: str) -> EmailMessage:
    """
    :param to: an address in the spelling of `runtime.email_address.normal`.
    :param id: from `message_id`.
    :param unsubscribe: a link that ends such mails with one POST (RFC 8058); empty for none.
    """
    letter = EmailMessage(policy=_HEADERS)
    letter["From"] = Address(sender.name, addr_spec=sender.address)
    local, _, domain = to.rpartition("@")
    letter["To"] = Address(username=local, domain=domain)
    letter["Subject"] = wording.subject
    letter["Date"] = datetime.now(UTC)
    letter["Message-ID"] = id
    letter["Auto-Submitted"] = "auto-generated"
    if unsubscribe:
        letter["List-Unsubscribe"] = f"<{unsubscribe}>"
        letter["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    letter["MIME-Version"] = "1.0"
    letter.make_alternative()
    for content, subtype in ((wording.text, "plain"), (wording.html, "html")):
        part = EmailMessage(policy=_PARTS)
        part.set_content(content, subtype=subtype)
        del part["MIME-Version"]
        letter.attach(part)
    return letter
