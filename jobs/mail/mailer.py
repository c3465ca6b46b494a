"""Sends one mail: from a template to the mail server's acceptance."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import structlog
import trio

from jobs.engine.job import GiveUp
from jobs.mail import letter
from jobs.mail.smtp import NotSent, Smtp, SmtpStatistics
from jobs.mail.wording import word
from runtime.email_address import BadAddress, normal, sender
from runtime.smtp_url import parse_smtp_url
from store.distribution import DistributionsBy

log = structlog.get_logger(__name__)


class Mailer:
    """Sends mails.

    :param url: SMTP_URL; if it is empty, `send` logs that the mail is not sent, and returns.
    :param mail_from: MAIL_FROM.
    :param public_url: PUBLIC_URL; links begin with it.
    :raises ValueError: if one of them is invalid; `runtime.config` has checked them.
    :ivar seconds: (template, outcome) -> times of mails, their waits for a conversation included.
    """

    def __init__(self, url: str, *, mail_from: str, public_url: str) -> None:
        self._public_url = public_url.rstrip("/")
        self.seconds: DistributionsBy[tuple[str, str]] = DistributionsBy()
        self._smtp: Smtp | None = None
        if url:
            self._sender = sender(mail_from)
            self._smtp = Smtp(parse_smtp_url(url), hostname=self._sender.address.rpartition("@")[2])

    @property
    def is_configured(self) -> bool:
        return self._smtp is not None

    def statistics(self) -> SmtpStatistics:
        return self._smtp.statistics() if self._smtp is not None else SmtpStatistics(0, 0)

    def link(self, path: str) -> str:
        """The URL of a path.

        :param path: from the root of `web`.
        """
        return self._public_url + path

    async def send(self, to: str, template: str, *, key: str = "", unsubscribe: str = "", **values: str) -> None:
        """Return once the mail server has accepted the mail.

        :param to: an address.
        :param template: name of the files in `templates/`, without their endings.
        :param key: identifies the mail: a repetition, such as by another run of the job, has the same key and therefore
            the same Message-ID. Empty: each mail is a new one.
        :param unsubscribe: a link that ends such mails with one POST (RFC 8058); empty for none.
        :param values: the template's values.
        :raises GiveUp: if the server refuses the address or the mail for good.
        :raises NotSent: if the server may accept the mail later.
        """
        began, outcome = trio.current_time(), "cancelled"
        try:
            is_sent = await self._send(to, template, key, unsubscribe, values)
            outcome = "accepted" if is_sent else "unsent"
        except GiveUp:
            outcome = "refused"
            raise
        except NotSent:
            outcome = "put_off"
            raise
        finally:
            self.seconds[template, outcome].observe(trio.current_time() - began)

    async def _send(self, to: str, template: str, key: str, unsubscribe: str, values: Mapping[str, str]) -> bool:
        if self._smtp is None:
            log.info("mail_not_sent", template=template, hint="set SMTP_URL, MAIL_FROM and PUBLIC_URL")
            return False
        try:
            to = normal(to)
        except BadAddress as error:
            raise GiveUp(f"the address {error}") from None
        wording = word(template, **values, public_url=self._public_url, unsubscribe=unsubscribe)
        id = letter.message_id(self._sender, f"{to} {template} {key or secrets.token_hex(16)}")
        message = letter.write(self._sender, to, wording, id=id, unsubscribe=unsubscribe)
        await self._smtp.deliver(message, self._sender.address, to)
        log.info("mail_sent", template=template, id=id)
        return True
