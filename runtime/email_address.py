"""E-mail addresses: checks whether mail can be sent to them, and normalizes their spelling."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

import idna

MAX_BYTES: Final = 254
"""Length of an address. A path in SMTP has 256 bytes with its angle brackets (RFC 5321, section 4.5.3.1.3)."""

MAX_LOCAL_BYTES: Final = 64
"""Length of the local part, before the @ (RFC 5321, section 4.5.3.1.1)."""

_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+")
_GMAIL: Final = ("gmail.com", "googlemail.com")
_SENDER: Final = re.compile(r'(?:"?([^"<>\x00-\x1f\x7f]*?)"? *<([^<>]+)>|([^<>]+))')


class BadAddress(ValueError):
    """Mail cannot be sent to the address. The text says what an address must be, without repeating the given one."""


class Sender(NamedTuple):
    """The sender of mail.

    :ivar name: empty for none.
    """

    name: str
    address: str


def normal(text: str) -> str:
    """The normal spelling of an address: the domain in ASCII (RFC 5891) and lower case, the local part unchanged.

    A local part may be non-ASCII (RFC 6531); mail servers on the way may refuse it. Quoted local parts, comments and
    address literals are refused: they are not in use, and programs read them differently.

    :raises BadAddress: if the text is not an address.
    """
    text = unicodedata.normalize("NFC", text)
    local, at, domain = text.rpartition("@")
    if not at:
        raise BadAddress("must have an @")
    if not local.isprintable() or not all(map(_LOCAL.fullmatch, local.split("."))) or " " in local:
        raise BadAddress("must have letters, digits and single dots before its @, neither spaces nor quotes")
    if len(local.encode()) > MAX_LOCAL_BYTES:
        raise BadAddress(f"must have at most {MAX_LOCAL_BYTES} bytes before its @")
    address = f"{local}@{_domain(domain)}"
    if len(address.encode()) > MAX_BYTES:
        raise BadAddress(f"must have at most {MAX_BYTES} bytes")
    return address


def mailbox(address: str) -> str:
    """One text for all spellings of an address that usually lead to one mailbox. For counting alone: mail goes to the
    address as it was given, and two users may well have addresses with one mailbox.

    Case does not count, nor what follows a `+` (RFC 5233), nor at Gmail dots and the name of the domain.

    :param address: as `normal` returns it.
    """
    local, _, domain = unicodedata.normalize("NFKC", address).casefold().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _GMAIL:
        local, domain = local.replace(".", ""), _GMAIL[0]
    return f"{unicodedata.normalize('NFKC', local)}@{domain}"


def _domain(text: str) -> str:
    try:
        domain = idna.encode(text, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise BadAddress("must have the name of a domain after its @, such as example.org") from None
    *labels, top = domain.split(".")
    if not labels or top.isdecimal() or not top:
        raise BadAddress("must have a domain of two names or more after its @, such as example.org")
    return domain


def sender(text: str) -> Sender:
    """The sender from `ADDRESS` or `NAME <ADDRESS>`.

    :raises BadAddress: if the text is neither.
    """
    found = _SENDER.fullmatch(text)
    if found is None or not text.isprintable():
        raise BadAddress("must be ADDRESS or NAME <ADDRESS>")
    return Sender((found[1] or "").strip(), normal(found[2] or found[3]))


def sender_fault(text: str) -> str:
    """The fault of a sender; empty if it is valid."""
    try:
        sender(text)
    except BadAddress as error:
        return str(error)
    return ""
