"""Conversations with the mail server: smtplib, which blocks, in threads.

No maintained SMTP client works on Trio (`docs/decisions/0021-mail.md`).
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from typing import Final, NamedTuple

import trio

from jobs.engine.job import GiveUp
from runtime.smtp_url import SmtpUrl

MAX_THREADS: Final = 8
"""Conversations of one worker at the same time; mail servers allow one client some ten. Further mails wait."""

TIMEOUT_S: Final = 40.0
"""For one mail, including its wait for a thread. A conversation takes 1 s with a server nearby, 10 s with one that
checks mails closely."""

STEP_TIMEOUT_S: Final = 15.0
"""For one answer of the server, and for connecting to one of its addresses."""


_ADDRESS: Final = re.compile(r"[^\s<>]+@[^\s<>]+")


class NotSent(Exception):
    """The mail was not sent, or the outcome is unknown; another attempt may succeed. The text says why, without
    addresses."""


class SmtpStatistics(NamedTuple):
    """
    :ivar conversations: under way; each holds a thread.
    :ivar waiting: mails that wait for a thread.
    """

    conversations: int
    waiting: int


class Smtp:
    """Passes messages to one mail server, each on a connection of its own.

    :param hostname: the name that this client gives the server.
    :raises OSError: if the file of authorities cannot be read.
    """

    def __init__(self, url: SmtpUrl, *, hostname: str) -> None:
        self._url = url
        self._hostname = hostname
        self._context = url.context()
        self._threads = trio.CapacityLimiter(MAX_THREADS)

    def statistics(self) -> SmtpStatistics:
        threads = self._threads.statistics()
        return SmtpStatistics(threads.borrowed_tokens, threads.tasks_waiting)

    async def deliver(self, letter: EmailMessage, sender: str, to: str) -> None:
        """Return once the server has accepted the message.

        Cancellation cuts the connection, which ends the thread; the outcome is then unknown.

        :raises GiveUp: if the server refuses the address or the message for good.
        :raises NotSent: if the server cannot be reached, has the wrong certificate, or defers the message.
        """
        conversation = _Conversation(self._url, self._hostname, self._context)
        try:
            with trio.fail_after(TIMEOUT_S):
                # An abandoned thread keeps its token until it ends, so the limit holds.
                await trio.to_thread.run_sync(
                    conversation.hold, letter, sender, to, abandon_on_cancel=True, limiter=self._threads
                )
        except trio.TooSlowError:
            raise NotSent(f"{self._url}: the mail was not accepted within {TIMEOUT_S:g} s") from None
        finally:
            conversation.cut()


class _Conversation:
    """One connection, from its beginning to its end. `hold` runs in a thread; any other thread may call `cut`."""

    def __init__(self, url: SmtpUrl, hostname: str, context: ssl.SSLContext | None) -> None:
        self._url = url
        self._context = context
        # Without a name given, smtplib would ask a name server for this machine's, which may take long.
        if url.tls == "implicit":
            self._client: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname=hostname, timeout=STEP_TIMEOUT_S, context=context
            )
        else:
            self._client = smtplib.SMTP(local_hostname=hostname, timeout=STEP_TIMEOUT_S)
        # The name that the certificate must have. smtplib sets it only if its constructor connects, and then `cut`
        # could not end the connecting.
        self._client._host = url.host  # type: ignore[attr-defined]
        self._is_cut = False

    def hold(self, letter: EmailMessage, sender: str, to: str) -> None:
        """
        :raises GiveUp, NotSent: as `Smtp.deliver`.
        """
        try:
            self._enter()
            self._client.send_message(letter, sender, [to])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, reply)] = error.recipients.values()
            raise self._refusal(code, reply, "the recipient") from None
        except smtplib.SMTPDataError as error:
            raise self._refusal(error.smtp_code, error.smtp_error, "the message") from None
        except smtplib.SMTPNotSupportedError:
            # Other extensions were checked before: only SMTPUTF8 can be missing here.
            raise GiveUp(f"{self._url} accepts only addresses in ASCII") from None
        except smtplib.SMTPResponseException as error:
            raise NotSent(f"{self._url}: {_said(error.smtp_code, error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSent(f"{self._url}: {_one_line(str(error) or type(error).__name__)}") from None
        else:
            # The server has accepted the message; errors of QUIT do not matter.
            with suppress(smtplib.SMTPException, OSError):
                self._client.quit()
        finally:
            self._client.close()

    def cut(self) -> None:
        """End the connection: a thread that waits for the server gets an error at once. After the end, it does
        nothing."""
        self._is_cut = True
        # Not SSLSocket's own shutdown, which removes TLS first: the other thread may be about to write.
        if (sock := self._client.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _enter(self) -> None:
        client = self._client
        code, reply = client.connect(self._url.host, self._url.port)
        if self._is_cut:  # `cut` came before there was a socket.
            raise NotSent(f"{self._url}: cancelled")
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        client.ehlo_or_helo_if_needed()
        if self._url.tls == "starttls":
            if not client.has_extn("starttls"):
                raise NotSent(
                    f"{self._url} offers no STARTTLS: mail is sent without TLS only if SMTP_URL says ?tls=none"
                )
            client.starttls(context=self._context)
            client.ehlo_or_helo_if_needed()
        if self._url.username:
            if not client.has_extn("auth"):
                raise NotSent(f"{self._url} offers no AUTH, which the password in SMTP_URL needs")
            client.login(self._url.username, self._url.password)

    def _refusal(self, code: int, reply: bytes | str, what: str) -> Exception:
        text = f"{self._url} refuses {what}: {_said(code, reply)}"
        return GiveUp(text) if 500 <= code < 600 else NotSent(text)


def _said(code: int, reply: bytes | str) -> str:
    """A reply for logs and dead jobs, without addresses."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return f"{code} {_one_line(_ADDRESS.sub('...', text))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
