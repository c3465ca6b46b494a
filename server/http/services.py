"""Everything that the routes share in one process: connections, caches and settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from runtime.config import RegistrationMode
from runtime.health import Health
from runtime.line_sample import LINES_PER_S, LineSample
from server.http.announcements import Announcements
from server.http.answer_headers import AnswerHeaders
from server.http.conditional import EntityTags
from server.http.external_issuer import ExternalIssuer
from server.http.first_pages import FirstPages
from server.http.guesses import Guesses
from server.http.http_counts import HttpCounts
from server.http.limits import PAUSE_S, Limits
from server.http.offered import WEBHOOKS, Offered
from server.http.origins import Origins
from server.http.passwords import Passwords
from server.http.request_log import RequestLog
from server.http.request_turns import RequestTurns, large_body_turns
from server.http.turns import Turns
from server.http.web_client import WebClient
from server.transport.proxies import NO_PROXIES, TrustedProxies
from store import conversations
from store.device_uses import DeviceUses
from store.key_claims import KeyClaims
from store.objects.avatar_modes import AvatarMode
from store.objects.direct import FileStore
from store.objects.quotas import QUOTAS, Quotas
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.replicas import Replicas
from store.transfers import Transfers


@dataclass(frozen=True, slots=True)
class Services:
    """`services_of` makes one; `uses.run` has to run.

    :ivar answer_headers: those that all answers have.
    :ivar health: of the process.
    :ivar counts: of requests.
    :ivar request_log: a line for each request; its `run` has to run, too.
    :ivar offered: the notifiers that workers have keys for.
    :ivar proxies: those that may name the client's address.
    :ivar ops_token: the operators' token; empty if the application has no routes for operators.
    :ivar registration: who may register.
    :ivar external_issuer: with whose tokens users may log in; None if there is none.
    :ivar starts_per_day: conversations with strangers that a user may begin in 24 hours.
    :ivar replicas: of Postgres, which read pages of history.
    :ivar objects: the object store; None if the deployment has none.
    :ivar key_claims: of this process.
    :ivar large_bodies: requests with large bodies that are read (`server.http.large_bodies`).
    :ivar transfers: uploads and downloads of attachments.
    :ivar web_client: that the application serves at `/app`; None if it has none.
    :ivar account_deletion_s: seconds from a user's request to delete the account to its deletion.
    """

    pool: Pool
    redis: Redis
    health: Health
    counts: HttpCounts
    request_log: RequestLog
    announcements: Announcements
    passwords: Passwords
    guesses: Guesses
    limits: Limits
    request_turns: RequestTurns
    large_bodies: Turns
    tags: EntityTags
    first_pages: FirstPages
    answer_headers: AnswerHeaders
    offered: Offered
    uses: DeviceUses
    proxies: TrustedProxies
    ops_token: str
    registration: RegistrationMode
    external_issuer: ExternalIssuer | None
    starts_per_day: int
    token_lifetime_s: float
    account_deletion_s: float
    replicas: Replicas
    objects: FileStore | None
    transfers: Transfers
    key_claims: KeyClaims
    web_client: WebClient | None


def services_of(
    pool: Pool,
    redis: Redis,
    announcements: Announcements,
    *,
    token_lifetime_s: float,
    health: Health,
    ops_token: str = "",
    offered: Offered = WEBHOOKS,
    proxies: TrustedProxies = NO_PROXIES,
    registration: RegistrationMode = "open",
    external_issuer: ExternalIssuer | None = None,
    starts_per_day: int = conversations.STARTS_PER_DAY,
    account_deletion_s: float = 14 * 86400.0,
    replicas: Replicas | None = None,
    objects: FileStore | None = None,
    quotas: Quotas = QUOTAS,
    avatars: AvatarMode = "encrypted",
    cors_origins: Collection[str] = (),
    rate_limit_factor: float = 1.0,
    limited_pause_s: float = PAUSE_S,
    log_lines_per_s: int = LINES_PER_S,
    web_client: WebClient | None = None,
) -> Services:
    """The services of a process, with caches of its own; the parameters are those of `Services`.

    :param quotas: of attachments.
    :param avatars: what avatars are in this deployment.
    :param cors_origins: origins of the web pages whose scripts may read answers.
    :param rate_limit_factor: that all limits on requests are multiplied by.
    :param limited_pause_s: the most seconds until an answer that a limit is reached.
    :param log_lines_per_s: the most lines for requests in the log, a second.
    """
    tags, replicas = EntityTags(pool), replicas or Replicas(pool)
    limits = Limits(redis, factor=rate_limit_factor, pause_s=limited_pause_s)
    return Services(
        pool=pool,
        redis=redis,
        health=health,
        counts=HttpCounts(),
        request_log=RequestLog(LineSample("request_answered", log_lines_per_s)),
        announcements=announcements,
        passwords=Passwords(limits.is_familiar),
        guesses=Guesses(redis),
        limits=limits,
        request_turns=RequestTurns(limits.user_of, proxies),
        large_bodies=large_body_turns(),
        tags=tags,
        first_pages=FirstPages(pool, tags, replicas),
        answer_headers=AnswerHeaders(Origins(cors_origins)),
        offered=offered,
        uses=DeviceUses(pool),
        proxies=proxies,
        ops_token=ops_token,
        registration=registration,
        external_issuer=external_issuer,
        starts_per_day=starts_per_day,
        token_lifetime_s=token_lifetime_s,
        account_deletion_s=account_deletion_s,
        replicas=replicas,
        objects=objects,
        transfers=Transfers(pool, objects, quotas, avatars),
        key_claims=KeyClaims(pool),
        web_client=web_client,
    )
