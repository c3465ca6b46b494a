"""The tasks that send mail: `verify_email`, `new_device`, `token_reused`, `account_closed`, `password_reset`,
`password_changed`, `export_ready`, `digests` and `digest`.

Their payloads are ids. A handler reads from Postgres whether the mail is still wanted, and its contents, just before it
sends the mail.
"""

from __future__ import annotations

from typing import Final, TypeVar
from uuid import UUID

import structlog

from jobs.engine.job import Job
from jobs.mail.mailer import Mailer
from jobs.mail.wording import without_links
from store import account_deletions, emails, exports, password_resets
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

_Mail = TypeVar("_Mail")

BATCH: Final = 200
"""Users in one query of `digests`, which counts their conversations: some 20 ms in total."""


class MailTasks:
    """The handlers."""

    def __init__(self, pool: Pool, mailer: Mailer) -> None:
        self._pool = pool
        self._mailer = mailer

    async def verify_email(self, job: Job, user: UUID) -> None:
        """Ask the reader of an address to confirm that a user may use it. The mail names no account: a stranger may
        read it, and users can choose names to be read by strangers.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await emails.take_verification(self._pool, user.bytes)):
            link = self._mailer.link(f"/v1/email/verifications/{mail.token}")
            await self._mailer.send(mail.address, "verify_email", key=f"{job.id} {mail.token}", link=link)

    async def new_device(self, job: Job, user: UUID, device: UUID) -> None:
        """Tell a user that a new device has logged in to the account.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await emails.device_notice(self._pool, user.bytes, device.bytes)):
            await self._tell_of_device("new_device", mail, key=f"{job.id} {device}")

    async def token_reused(self, job: Job, user: UUID, device: UUID) -> None:
        """Tell a user that a device was revoked, since a token of it was shown that had ended.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await emails.reuse_notice(self._pool, user.bytes, device.bytes)):
            await self._tell_of_device("token_reused", mail, key=f"{job.id} {device}")

    async def _tell_of_device(self, template: str, mail: emails.DeviceNotice, *, key: str) -> None:
        await self._mailer.send(
            mail.address,
            template,
            key=key,
            username=mail.username,
            device_name=without_links(mail.device_name) or "a device without a name",
            at=mail.at,
            zone=mail.zone,
        )

    async def _tell_of_account(self, template: str, mail: emails.AccountNotice, *, key: str) -> None:
        await self._mailer.send(mail.address, template, key=key, username=mail.username, at=mail.at, zone=mail.zone)

    async def account_closed(self, job: Job, user: UUID) -> None:
        """Tell a user that the account is to be deleted, and how to keep it: a thief may have asked for it.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await account_deletions.closing_notice(self._pool, user.bytes)):
            await self._tell_of_account("account_closed", mail, key=f"{job.id} {user}")

    async def password_reset(self, job: Job, reset: UUID, user: UUID | None) -> None:
        """Send a link that sets another password.

        :param user: None: no user was found, and there is nothing to send.
        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await password_resets.mail(self._pool, reset.bytes)):
            link = self._mailer.link(f"/v1/password-resets/{mail.token}")
            await self._mailer.send(
                mail.address,
                "password_reset",
                key=f"{job.id} {reset}",
                username=mail.username,
                link=link,
                at=mail.at,
                zone=mail.zone,
            )

    async def password_changed(self, job: Job, user: UUID) -> None:
        """Tell a user that the password was changed.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await password_resets.changed_notice(self._pool, user.bytes)):
            await self._tell_of_account("password_changed", mail, key=f"{job.id} {user}")

    async def export_ready(self, job: Job, user: UUID, export: UUID) -> None:
        """Tell a user that an export can be fetched: a thief may have asked for it.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await exports.ready_notice(self._pool, export.bytes)):
            await self._tell_of_account("export_ready", mail, key=f"{job.id} {export}")

    async def digests(self, job: Job) -> None:
        """Enqueue a digest for each user whose hour has come and who has unread messages; in batches, until none is
        due."""
        if not self._mailer.is_configured:
            log.info("mail_not_sent", template="digest", hint="set SMTP_URL, MAIL_FROM and PUBLIC_URL")
            return
        users = mails = 0
        while True:
            looked_at, asked = await emails.ask_digests(self._pool, limit=BATCH)
            users, mails = users + looked_at, mails + asked
            if looked_at < BATCH:
                break
            await job.report(f"{users} users, {mails} digests")
        if users:
            log.info("digests_due", users=users, digests=mails)

    async def digest(self, job: Job, user: UUID) -> None:
        """Tell a user how many messages are unread, if any: numbers, and neither content nor names.

        :raises GiveUp, NotSent: see `Mailer.send`.
        """
        if mail := _needed(await emails.digest(self._pool, user.bytes)):
            await self._mailer.send(
                mail.address,
                "digest",
                key=f"{job.id} {user}",
                unsubscribe=self._mailer.link(f"/v1/unsubscribe/{mail.token}"),
                username=mail.username,
                unread=str(mail.unread),
                conversations=str(mail.conversations),
            )
            await emails.digest_sent(self._pool, user.bytes, mail.address)


def _needed(mail: _Mail | None) -> _Mail | None:
    """The mail, unless its reason has gone since its job was enqueued; the log says so."""
    if mail is None:
        log.info("mail_not_needed")
    return mail
