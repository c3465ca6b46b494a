"""The notifiers for which the configuration has keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext

import httpx
import trio

from jobs.mail.mailer import Mailer
from jobs.notifiers.apns import Apns
from jobs.notifiers.email import Email
from jobs.notifiers.fcm import Fcm
from jobs.notifiers.guard import GuardedTransport
from jobs.notifiers.http2 import LoneStreams
from jobs.notifiers.notifier import Notice, Notifier, NotifyError, TargetGone
from jobs.notifiers.web_push import WebPush
from jobs.notifiers.webhook import Webhook
from runtime.config import Config, ConfigError
from store.distribution import DistributionsBy
from store.notifiers import Target, WebhookTarget, kind_of


class Notifiers:
    """One notifier for each configured kind, and the deployment's own webhook.

    :ivar has_deployment: whether the deployment has a webhook.
    :ivar seconds: (service, outcome) -> times of calls.
    """

    def __init__(self, by_kind: Mapping[str, Notifier], deployment: tuple[Notifier, WebhookTarget] | None) -> None:
        self._by_kind = by_kind
        self._deployment = deployment
        self.seconds: DistributionsBy[tuple[str, str]] = DistributionsBy()

    @property
    def has_deployment(self) -> bool:
        return self._deployment is not None

    async def notify(self, target: Target | None, notice: Notice) -> None:
        """
        :param target: None for the deployment's webhook.
        :raises NotifyError: if the notice was not taken, or this kind is not configured.
        :raises TargetGone: if the caller must delete the target.
        """
        began, outcome = trio.current_time(), "cancelled"
        try:
            await self._notify(target, notice)
            outcome = "taken"
        except TargetGone:
            outcome = "gone"
            raise
        except NotifyError as error:
            outcome = "refused" if error.is_final else "failed"
            raise
        finally:
            service = "deployment" if target is None else kind_of(target)
            self.seconds[service, outcome].observe(trio.current_time() - began)

    async def _notify(self, target: Target | None, notice: Notice) -> None:
        if target is None:
            if self._deployment is None:
                raise NotifyError("OFFLINE_NOTICE_URL is no longer set", is_final=True)
            webhook, own = self._deployment
            await webhook.notify(own, notice)
            return
        kind = kind_of(target)
        notifier = self._by_kind.get(kind)
        if notifier is None:
            raise NotifyError(f"{kind} is not configured for this worker", is_final=True)
        await notifier.notify(target, notice)


@asynccontextmanager
async def open_notifiers(
    config: Config, mailer: Mailer | None = None, *, context: SSLContext | None = None
) -> AsyncGenerator[Notifiers, None]:
    """The notifiers, with their HTTP clients, until the block ends.

    :param mailer: None if this deployment sends no mail.
    :param context: the trusted certificates; by default those that httpx trusts.
    :raises ConfigError: if a key cannot be read.
    """
    context = context or httpx.create_ssl_context()
    guarded = GuardedTransport(context, config.notifier_networks_allowed)
    async with (
        httpx.AsyncClient(transport=LoneStreams(context)) as services,
        # A proxy from the environment would resolve names itself.
        httpx.AsyncClient(transport=guarded, trust_env=False) as outside,
        httpx.AsyncClient(verify=context) as own,
    ):
        by_kind: dict[str, Notifier] = {"webhook": Webhook(outside)}
        if mailer:
            by_kind["email"] = Email(mailer)
        if config.vapid_private_key:
            by_kind["web_push"] = WebPush(outside, config.vapid_private_key, config.vapid_contact)
        if config.apns_key:
            by_kind["apns"] = _apns(config, services)
        if config.fcm_credentials:
            by_kind["fcm"] = _fcm(config, services)
        deployment = None
        if config.offline_notice_url:
            target = WebhookTarget(config.offline_notice_url, config.offline_notice_secret)
            deployment = (Webhook(own, is_forgettable=False), target)
        yield Notifiers(by_kind, deployment)


def _apns(config: Config, client: httpx.AsyncClient) -> Apns:
    try:
        return Apns(
            client,
            config.apns_url,
            key=_text_of(config.apns_key, begins="-----"),
            key_id=config.apns_key_id,
            team_id=config.apns_team_id,
            topic=config.apns_topic,
        )
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"APNS_KEY must be a .p8 key (PEM) or the path of its file: {error}") from None


def _fcm(config: Config, client: httpx.AsyncClient) -> Fcm:
    try:
        return Fcm(client, config.fcm_url, _text_of(config.fcm_credentials, begins="{"))
    except (ValueError, TypeError, OSError) as error:
        what = "the JSON of a service account or the path of its file"
        raise ConfigError(f"FCM_CREDENTIALS must be {what}: {error}") from None


def _text_of(value: str, *, begins: str) -> str:
    """The text that a variable contains, or that the file contains which it names."""
    if value.lstrip().startswith(begins):
        # In a variable of one line, \n separates the lines of a key.
        return value.replace("\\n", "\n") if begins == "-----" else value
    return Path(value).read_text()
