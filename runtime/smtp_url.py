"""Parses URLs of mail servers: host, login and TLS.

| form | meaning |
|---|---|
| `smtp://[USER:PASSWORD@]HOST[:PORT]` | port 587; the client requires STARTTLS before it sends anything |
| `smtps://[USER:PASSWORD@]HOST[:PORT]` | port 465; TLS from the first byte |
| `smtp://HOST[:PORT]?tls=none` | no TLS and no password, for a relay on the same machine |

Certificates are checked against the system's authorities, or against those in `?ca=FILE`. User and password are
percent-decoded.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

_FORM: Final = re.compile(r"(smtps?)://(?:([^:/?#@]*):([^:/?#@]*)@)?([^/?#@]*)/?(?:\?([^#]*))?", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?")

_PORTS: Final = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class SmtpUrl:
    """The parts of a URL.

    :ivar tls: when TLS begins.
    :ivar ca: a file with trusted authorities; empty for the system's.
    """

    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""

    def __str__(self) -> str:
        """Host and port, for logs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """The TLS context that verifies the server; None without TLS.

        :raises OSError: if the file of authorities cannot be read, or is invalid (`ssl.SSLError`).
        """
        return None if self.tls == "none" else ssl.create_default_context(cafile=self.ca or None)


def parse_smtp_url(url: str) -> SmtpUrl:
    """
    :raises ValueError: if the URL is invalid. The text says what it must be, without repeating any part of it, since
        any part may be a password.
    """
    form = _FORM.fullmatch(url)
    if form is None:
        raise ValueError("must be an smtp:// or smtps:// URL (in a password, write / ? # @ : as %2F %3F %23 %40 %3A)")
    scheme = form[1].lower()
    username, password = unquote(form[2] or ""), unquote(form[3] or "")
    if not (username + password).isascii() or bool(username) != bool(password):
        raise ValueError("must have both a user and a password, of ASCII, or neither")
    options = dict(parse_qsl(form[5] or "", keep_blank_values=True))
    if not options.keys() <= {"tls", "ca"} or options.get("tls", "none") != "none":
        raise ValueError("must have nothing in its query but ca=FILE and tls=none")
    tls: Literal["starttls", "implicit", "none"] = "implicit" if scheme == "smtps" else "starttls"
    if "tls" in options:
        if tls == "implicit" or username or "ca" in options:
            raise ValueError("must be smtp://HOST:PORT, without a password or authorities, if it has tls=none")
        tls = "none"
    return SmtpUrl(*_host(form[4], _PORTS[scheme]), tls, username, password, options.get("ca", ""))


def smtp_url_fault(url: str) -> str:
    """The fault of the URL, or of the file that it names; empty if both are valid."""
    try:
        parsed = parse_smtp_url(url)
    except ValueError as error:
        return str(error)
    try:
        parsed.context()
    except OSError as error:
        return f"must name a readable file of certificates as ca: {error.strerror or error}"
    return ""


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    port = int(found[3] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError("must have a host, or a host and a port of 1 to 65535 (an IPv6 address in brackets)")
    return found[1] or found[2], port
