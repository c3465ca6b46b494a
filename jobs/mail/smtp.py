"""One conversation with the mail server: smtplib, which blocks, in a thread.

No client of SMTP that is looked after works on Trio (`docs/decisions/0021-mail.md`).
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
"""Conversations at a time in one worker; mail servers take some ten from one client. The rest wait for their turn."""

TIMEOUT_S: Final = 40.0
"""For a mail, its turn included: a conversation takes 1 s with a server nearby, 10 s with one that looks closely."""

STEP_TIMEOUT_S: Final = 15.0
"""For one answer of the server, and for connecting to one of its addresses."""


_ADDRESS: Final = re.compile(r"[^\s<>]+@[^\s<>]+")


class NotSent(Exception):
    """The mail was not sent, or nobody knows; another attempt may do better. The text says why, without addresses."""


class SmtpStatistics(NamedTuple):
    """
    :ivar conversations: that are under way, and hold a thread.
    :ivar waiting: mails that wait for a thread.
    """

    conversations: int
    waiting: int


class Smtp:
    """Hands messages to one mail server, each by a connection of its own.

    :param hostname: what to call oneself there.
    :raises OSError: if the authorities cannot be read.
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
        """Return once the server has taken the message.

        Cancelled, it cuts the connection, which ends the thread; whether the message was taken is then unknown.

        :raises GiveUp: if the server takes no mail for this address, or not this message, for good.
        :raises NotSent: if it cannot be reached, is not who it should be, or wants it later.
        """
        conversation = _Conversation(self._url, self._hostname, self._context)
        try:
            with trio.fail_after(TIMEOUT_S):
                # Abandoned, the thread holds its place until it has ended, so there are never more of them.
                await trio.to_thread.run_sync(
                    conversation.hold, letter, sender, to, abandon_on_cancel=True, limiter=self._threads
                )
        except trio.TooSlowError:
            raise NotSent(f"{self._url}: not done within {TIMEOUT_S:g} s") from None
        finally:
            conversation.cut()


class _Conversation:
    """One connection, from its beginning to its end; `hold` runs in a thread, `cut` in any other."""

    def __init__(self, url: SmtpUrl, hostname: str, context: ssl.SSLContext | None) -> None:
        self._url = url
        self._context = context
        # Named, smtplib asks no name server for our own name, which may take long.
        if url.tls == "implicit":
            self._client: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname=hostname, timeout=STEP_TIMEOUT_S, context=context
            )
        else:
            self._client = smtplib.SMTP(local_hostname=hostname, timeout=STEP_TIMEOUT_S)
        # The name that the certificate must have. smtplib learns it only where its constructor connects, and then
        # there would be nothing to cut meanwhile.
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
            # By now that is SMTPUTF8 alone.
            raise GiveUp(f"{self._url} takes no addresses with other letters than those of ASCII") from None
        except smtplib.SMTPResponseException as error:
            raise NotSent(f"{self._url}: {_said(error.smtp_code, error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise NotSent(f"{self._url}: {_one_line(str(error) or type(error).__name__)}") from None
        else:
            # It is taken; whatever becomes of the farewell.
            with suppress(smtplib.SMTPException, OSError):
                self._client.quit()
        finally:
            self._client.close()

    def cut(self) -> None:
        """End it: whoever waits for the server gets an error at once. Afterwards, it does nothing."""
        self._is_cut = True
        # Not SSLSocket's own shutdown: that takes off the TLS first, and the other thread may be about to write.
        if (sock := self._client.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _enter(self) -> None:
        client = self._client
        code, reply = client.connect(self._url.host, self._url.port)
        if self._is_cut:  # Before there was anything to cut.
            raise NotSent(f"{self._url}: cancelled")
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        client.ehlo_or_helo_if_needed()
        if self._url.tls == "starttls":
            if not client.has_extn("starttls"):
                raise NotSent(
                    f"{self._url} offers no STARTTLS: nothing is sent without TLS, unless SMTP_URL says ?tls=none"
                )
            client.starttls(context=self._context)
            client.ehlo_or_helo_if_needed()
        if self._url.username:
            if not client.has_extn("auth"):
                raise NotSent(f"{self._url} offers no AUTH, but SMTP_URL has a password")
            client.login(self._url.username, self._url.password)

    def _refusal(self, code: int, reply: bytes | str, what: str) -> Exception:
        text = f"{self._url} refuses {what}: {_said(code, reply)}"
        return GiveUp(text) if 500 <= code < 600 else NotSent(text)


def _said(code: int, reply: bytes | str) -> str:
    """A reply for logs and dead jobs, which are no place for addresses."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return f"{code} {_one_line(_ADDRESS.sub('...', text))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
