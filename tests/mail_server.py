"""A mail server (aiosmtpd) that a test controls. It runs in a thread of its own, since aiosmtpd is made for asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from threading import Event, Thread
from typing import Any

import trio
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "postman", "pass:w/rd@1"
LOGIN = "postman:pass%3Aw%2Frd%401"


@dataclass
class Delivery:
    """A message that a client handed over, and how.

    :ivar hostname: the client's name for itself.
    """

    mail_from: str
    to: list[str]
    raw: bytes
    letter: EmailMessage
    hostname: str
    is_encrypted: bool
    is_logged_in: bool
    is_utf8: bool

    def part(self, subtype: str) -> str:
        """The text of the part of that type."""
        [part] = [each for each in self.letter.iter_parts() if each.get_content_type() == f"text/{subtype}"]
        assert isinstance(part, EmailMessage)
        return str(part.get_content()).replace("\r\n", "\n")


@dataclass
class MailServer:
    """
    :ivar got: the messages that the server took, in order.
    :ivar replies: command -> its next answers, instead of "250 OK".
    :ivar hangs_at: no answer to this command until the end.
    :ivar drops: the server takes the next message, and loses the connection before it answers.
    :ivar most: conversations that went on at a time, each until its QUIT was heard.
    :ivar connections: those that are open.
    :ivar talking: those of them that have not said QUIT.
    :ivar quiet: set while no connection is open.
    """

    tls: ssl.SSLContext | None = None
    is_implicit: bool = False
    takes_utf8: bool = True
    port: int = 0
    got: list[Delivery] = field(default_factory=list)
    replies: dict[str, list[str]] = field(default_factory=dict)
    hangs_at: str = ""
    drops: bool = False
    passwords: list[bytes] = field(default_factory=list)
    most: int = 0

    def __post_init__(self) -> None:
        self._ready = Event()
        self.connections: list[SMTP] = []
        self.talking: list[SMTP] = []
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), name="mail server")

    def url(self, *, login: str = LOGIN, ca: Any = "", host: str = "127.0.0.1") -> str:
        scheme = "smtps" if self.is_implicit else "smtp"
        return f"{scheme}://{login}{'@' if login else ''}{host}:{self.port}" + (f"?ca={ca}" if ca else "")

    @property
    def now_open(self) -> int:
        return len(self.connections)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(5)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._stopped, self.quiet = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self.quiet.set()
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        server = await self._loop.create_server(self._connected, sock=sock, ssl=self.tls if self.is_implicit else None)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for each in list(self.connections):
            # Python 3.11.2 has taken its transport apart by then, if the peer is closing it.
            with suppress(AttributeError):
                each.transport.abort()  # type: ignore[union-attr]
        await self.quiet.wait()

    def _connected(self) -> SMTP:
        return _Connection(
            self,
            hostname="mail.test",
            tls_context=None if self.is_implicit else self.tls,
            enable_SMTPUTF8=self.takes_utf8,
            authenticator=self._check,
            auth_require_tls=not self.is_implicit,  # aiosmtpd does not count it as TLS
            loop=self._loop,
        )

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.passwords.append(data.password)
        is_right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    async def reply(self, command: str) -> str | None:
        if command == self.hangs_at:
            await self._stopped.wait()
        return self.replies[command].pop(0) if self.replies.get(command) else None

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.reply("MAIL"):
            return reply
        envelope.mail_from, envelope.mail_options = address, options
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.reply("RCPT"):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if reply := await self.reply("DATA"):
            return reply
        raw = envelope.content
        assert isinstance(raw, bytes)
        assert envelope.mail_from is not None
        letter = BytesParser(policy=policy.default).parsebytes(raw)
        assert isinstance(letter, EmailMessage)
        self.got.append(
            Delivery(
                envelope.mail_from,
                envelope.rcpt_tos,
                raw,
                letter,
                session.host_name or "",
                self.is_implicit or session.ssl is not None,
                session.authenticated is True,
                envelope.smtp_utf8,
            )
        )
        if self.drops:
            self.drops = False
            server.transport.abort()  # type: ignore[union-attr]
        return "250 OK"


class _Connection(SMTP):
    def __init__(self, box: MailServer, **settings: Any) -> None:
        super().__init__(box, **settings)
        self._box = box

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        if reply := await self._box.reply("STARTTLS"):
            await self.push(reply)
        else:
            await super().smtp_STARTTLS(arg)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self._box.connections:  # STARTTLS makes it a second time
            self._box.connections.append(self)
            self._box.quiet.clear()
            self._box.talking.append(self)
            self._box.most = max(self._box.most, len(self._box.talking))
        super().connection_made(transport)

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        self._box.talking.remove(self)
        await super().smtp_QUIT(arg)

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._box.talking:
            self._box.talking.remove(self)
        if self in self._box.connections:
            self._box.connections.remove(self)
            if not self._box.connections:
                self._box.quiet.set()
        super().connection_lost(error)


@asynccontextmanager
async def open_mail_server(server: MailServer) -> AsyncGenerator[MailServer, None]:
    server.start()
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.stop)
