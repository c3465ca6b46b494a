"""Every environment variable that the processes read, with its default and meaning.

`python -m tests.runtime.make_configuration` writes the table in docs/configuration.md from the fields of `Config`.
"""

from __future__ import annotations

import dataclasses
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from typing import Final, Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from protocol.limits import ATTACHMENT_PART_BYTES, MAX_ADDRESS_CONNECTIONS
from runtime.email_address import sender_fault
from runtime.old_variables import redis_url_of
from runtime.smtp_url import smtp_url_fault
from runtime.web_origins import web_origins, web_origins_fault
from store.objects.avatar_modes import AVATAR_MODES, AvatarMode
from store.objects.quotas import Quotas
from store.objects.url import objects_url_fault, public_url_fault
from store.postgres.driver import is_url
from store.redis.url import redis_url_fault

RegistrationMode: TypeAlias = Literal["open", "invitation", "closed"]
"""Who may register: everybody, a user with an invitation, or nobody."""

REGISTRATION_MODES: Final = get_args(RegistrationMode)

PORT_STEP: Final = 10
"""Between the ports of two processes of one kind on one machine; those of the other kinds lie in between."""

MAX_INSTANCES: Final = 100
"""Processes of one kind on one machine: more than the cores of any."""


class ConfigError(Exception):
    """A variable has an invalid value. The text names the variable and the allowed values."""


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one process. Field `x_y` is read from the variable `X_Y`."""

    host: str = "127.0.0.1"
    """Address that `web` and `socket` listen on. 0.0.0.0 takes connections from other machines."""
    port: int = 8000
    """Port of `web` (HTTP)."""
    socket_port: int = 8001
    """Port of `socket` (WebSocket)."""
    instance: int = 1
    """Number of this process among those of its kind on this machine, from 1: each of its ports is 10 * (INSTANCE - 1)
    above the variable that names it."""
    database_url: str = "postgresql://postgres@127.0.0.1:5432/postgres"
    """Postgres 15 or newer itself, not a connection pooler, as a libpq URL or DSN. With several hosts the process uses
    the one that takes writes."""
    database_replica_urls: str = ""
    """Hot standbys of that Postgres, as libpq URLs separated by spaces: they read pages of history and exports
    (`docs/deployment.md`). Empty: none."""
    database_pool: int = 8
    """Postgres connections of one process."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis 6.2 or newer: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://` or `redis+cluster://`.
    REDIS_HOST, REDIS_PORT and REDIS_PASSWORD do instead, as they did for the service before this one."""
    redis_bus_url: str = ""
    """Redis for the messages between nodes (`socket`, `web`); several URLs, separated by spaces, for servers that
    share them. Empty: that of REDIS_URL."""
    redis_jobs_url: str = ""
    """Redis for the job queue (`worker`). Empty: that of REDIS_URL."""
    object_store_url: str = dataclasses.field(default="", repr=False)
    """Archives and attachments: `file:///PATH`, or `s3://KEY:SECRET@HOST[:PORT]/BUCKET` for Cloudflare R2, S3 and
    others, with `?region=` (default `auto`), `?tls=false` and `?part_checksums=false` (`docs/object-store.md`). Empty:
    the deployment keeps neither."""
    max_attachment_bytes: int = 2 * 1024**3
    """Most bytes of one attachment."""
    attachment_bytes_per_user: int = 10 * 1024**3
    """Most bytes of all attachments and uploads of a user. 0: no limit."""
    attachment_bytes_per_day: int = 5 * 1024**3
    """Most bytes that a user may begin to upload in one day (UTC). 0: no limit."""
    open_uploads_per_user: int = 100
    """Most uploads of a user that neither a message nor an avatar has yet. 0: no limit."""
    attachment_bytes_total: int = 0
    """Most bytes of all attachments and uploads of all users. 0: no limit."""
    max_avatar_bytes: int = 512 * 1024
    """Most bytes of the avatar of a user or a group."""
    avatars: str = "encrypted"
    """What avatars are: ciphertext like all other attachments (`encrypted`), or pictures that every holder of their
    URL can see (`public`, `docs/attachments.md`)."""
    token_lifetime_s: float = 90 * 86400.0
    """Seconds until a device's token expires, unless the device renews it: 90 days."""
    trusted_proxies: str = ""
    """Load balancers that may tell the client's address (PROXY protocol v1 and v2, `X-Forwarded-For`): addresses and
    networks, separated by commas."""
    max_address_connections: int = MAX_ADDRESS_CONNECTIONS
    """Connections of one client address (one /64 of IPv6) to one `web` or `socket` process."""
    worker_concurrency: int = 32
    """Jobs that one `worker` runs at a time."""
    metrics_host: str = "127.0.0.1"
    """Address of the port for operators (`docs/operations.md`): metrics and health, without authentication."""
    metrics_port: int = 9464
    """Port for operators: of `web`; `socket` listens on the next one, `worker` on the one after it. 0: no port."""
    ready_grace_s: float = 0.0
    """Seconds that a process that is told to stop serves as before, while `/readyz` answers 503: as long as load
    balancers take to notice."""
    offline_notice_url: str = ""
    """Webhook of the deployment for offline notices of all users. Empty: the worker logs the notices."""
    offline_notice_after_s: float = 10.0
    """Debounce window: seconds that a message may stay undelivered before its recipients are notified."""
    read_notice_after_s: float = 120.0
    """Read window: seconds that a message may stay unread that one device of a recipient has, before the recipient's
    other devices are notified."""
    notice_pauses_s: str = "60,600,3600,21600,86400"
    """Seconds of pause after the first, second, ... notice to one notifier while its user marks nothing delivered or
    read. The last pause repeats."""
    smtp_url: str = ""
    """Mail server: `smtp://` (with STARTTLS) or `smtps://`. Empty: the deployment sends no mail, which the log says."""
    mail_from: str = ""
    """Sender of mail: `ADDRESS`, or `NAME <ADDRESS>`. SMTP_URL needs it."""
    public_url: str = ""
    """URL of `web` for users, such as `https://chat.example`: links in mails begin with it. SMTP_URL needs it."""
    public_files_url: str = ""
    """URL where clients reach the files of the object store, such as `https://files.example`. Empty: for a folder
    that of PUBLIC_URL, or HOST and PORT; for a service that of OBJECT_STORE_URL."""
    public_socket_url: str = ""
    """URLs of `socket` that the web client connects to, separated by commas, such as `wss://chat.example`. Empty: HOST
    and SOCKET_PORT."""
    web_client: int = 0
    """1: `web` serves the web client at `/app` (`docs/web-client.md`). 0: it does not."""
    cors_origins: str = ""
    """Origins of web pages whose scripts may read answers of `web` (CORS), separated by commas, such as
    `https://chat.example`. Empty: pages of `web`'s own origin alone."""
    rate_limit_factor: float = 1.0
    """Multiplies the limits on HTTP requests of one address or user (`docs/http.md`), and on connections of an address
    that no user owns, such as 10 where all users of a company share an address."""
    registration: str = "open"
    """Who may register: everybody (`open`), users with an invitation (`invitation`, made by `python -m store
    invitations`), or nobody (`closed`)."""
    external_issuer: str = ""
    """Issuer (the exact `iss`) whose JWTs users may log in with, such as `https://PROJECT.supabase.co/auth/v1`. Empty:
    there is none. It needs EXTERNAL_AUDIENCE, and one of EXTERNAL_JWKS_URL and EXTERNAL_SECRET."""
    external_audience: str = ""
    """Audience (`aud`) that these JWTs have, such as `authenticated` (Supabase)."""
    external_jwks_url: str = ""
    """URL of the issuer's key set, for JWTs by RS256, ES256 or EdDSA, such as
    `https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json`."""
    external_secret: str = dataclasses.field(default="", repr=False)
    """Secret that the issuer shares, for JWTs by HS256: 32 bytes or more."""
    new_conversations_per_day: int = 50
    """Conversations with strangers that a user may begin in 24 hours. Each stranger whom the user adds to a group
    counts as one, too."""
    retention_days: float = 0.0
    """Days after which messages are deleted. 0: messages are kept for ever. Where a conversation has a lifetime of its
    own, the shorter one counts."""
    retention_archives: int = 0
    """1: messages that RETENTION_DAYS removes go to the object store first. Messages that disappear by the lifetime of
    their conversation are never archived."""
    security_events_days: int = 365
    """Days that security events are kept: logins, revocations and the like (`docs/http.md`)."""
    account_deletion_days: float = 14.0
    """Days between a user's request to delete the account and its deletion, in which a login may keep the account. 0:
    there is no such time."""
    ops_token: str = ""
    """Token that operators show to `web` for `/v1/ops/` (`docs/http.md`), 16 characters or more. Empty: `web`
    answers 404."""
    offline_notice_secret: str = ""
    """Secret that signs the calls of OFFLINE_NOTICE_URL: `whsec_` and base64 of 24 to 64 bytes. Empty: the calls are
    not signed."""
    notifier_networks: str = ""
    """Networks, separated by commas, that users' webhooks may be in although their addresses are not public."""
    vapid_private_key: str = ""
    """Web Push: a key of P-256, which is 32 random bytes, in base64url. Empty: users have no Web Push."""
    vapid_contact: str = ""
    """A `mailto:` or `https:` URL where push services reach the operator. VAPID_PRIVATE_KEY needs it."""
    apns_key: str = ""
    """Apple's push service: a .p8 key (PEM), or the path of its file. Empty: users have no APNs."""
    apns_key_id: str = ""
    """Id of the key in APNS_KEY, which needs it."""
    apns_team_id: str = ""
    """Team id of the Apple account that the key belongs to. APNS_KEY needs it."""
    apns_topic: str = ""
    """Bundle id of the app. APNS_KEY needs it."""
    apns_url: str = "https://api.push.apple.com"
    """URL of Apple's push service, or of its sandbox."""
    fcm_credentials: str = ""
    """Firebase Cloud Messaging: the JSON of a service account, or the path of its file. Empty: users have no FCM."""
    fcm_url: str = "https://fcm.googleapis.com"
    """URL of Firebase Cloud Messaging."""
    log_level: str = "info"
    """debug, info, warning or error. Logs go to stderr."""
    log_lines_per_s: int = 100
    """Most lines a second for answered requests of HTTP, and as many for ended connections. Further ones are counted,
    and their number is logged."""
    slow_query_s: float = 1.0
    """Seconds after which a statement of Postgres counts as slow: the log names it."""
    log_format: str = ""
    """`json`: one object a line. `console`: for people, in colour unless NO_COLOR is set. Empty: `console` on a
    terminal, `json` elsewhere."""
    otel_exporter_otlp_endpoint: str = ""
    """Collector of traces (OTLP over HTTP), such as `http://127.0.0.1:4318`. Empty: the processes trace nothing. It
    needs the packages of `locks/tracing.txt`; the other standard variables OTEL_* work too."""
    otel_traces_sampler_arg: float = 0.01
    """Share of the sent messages that are traced, 0 to 1."""
    sentry_dsn: str = dataclasses.field(default="", repr=False)
    """Where errors are reported (Sentry and others that speak its protocol): `https://KEY@HOST/PROJECT`. Empty:
    nowhere. It needs the packages of `locks/tracing.txt`."""
    ready_line: str = ""
    """A line that the process writes to stderr once it serves. Empty: it writes none."""

    @property
    def web_port(self) -> int:
        """The port of this process, if it is a `web`; 0: any free one."""
        return self.port and self.port + self.port_shift

    @property
    def gateway_port(self) -> int:
        """The port of this process, if it is a `socket`; 0: any free one."""
        return self.socket_port and self.socket_port + self.port_shift

    @property
    def port_shift(self) -> int:
        """What each port of this process is above those of the first of its kind."""
        return (self.instance - 1) * PORT_STEP

    @property
    def replica_urls(self) -> list[str]:
        return self.database_replica_urls.split()

    @property
    def bus_url(self) -> str:
        return self.redis_bus_url or self.redis_url

    @property
    def jobs_url(self) -> str:
        return self.redis_jobs_url or self.redis_url

    @property
    def registration_mode(self) -> RegistrationMode:
        return cast("RegistrationMode", self.registration)

    @property
    def avatar_mode(self) -> AvatarMode:
        return cast("AvatarMode", self.avatars)

    @property
    def files_url(self) -> str:
        """The URL of `web` for clients, which serves the files of a folder."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_files_url or self.public_url or f"http://{host}:{self.port}"

    @property
    def socket_url(self) -> str:
        """The URL of the first `socket` on this machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.socket_port}"

    @property
    def notice_pauses(self) -> list[float]:
        return [float(text) for text in self.notice_pauses_s.split(",")]

    @property
    def quotas(self) -> Quotas:
        return Quotas(
            self.max_attachment_bytes,
            self.open_uploads_per_user,
            self.attachment_bytes_per_day,
            self.attachment_bytes_per_user,
            self.attachment_bytes_total,
            self.max_avatar_bytes,
        )

    @property
    def notifier_networks_allowed(self) -> list[IPv4Network | IPv6Network]:
        return [ip_network(text.strip()) for text in self.notifier_networks.split(",") if text.strip()]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Config:
        """
        :raises ConfigError: if a variable has an invalid value.
        """
        values: dict[str, object] = {}
        try:
            environment = {**environment, "REDIS_URL": redis_url_of(environment)}
        except ValueError as error:
            raise ConfigError(str(error)) from None
        for field in fields(cls):
            name = field.name.upper()
            text = environment.get(name, "")
            if not text:
                continue
            convert = {"int": int, "float": float, "str": str}[str(field.type)]
            try:
                values[field.name] = convert(text)
            except ValueError:
                number = "a whole number" if convert is int else "a number"
                raise ConfigError(f"{name} must be {number}, not {text!r}") from None
        config = cls(**values)  # type: ignore[arg-type]
        config._check()
        return config

    def _check(self) -> None:
        for name, what, is_good in self._rules():
            if not is_good:
                raise ConfigError(f"{name} {what}")

    def _rules(self) -> Iterator[tuple[str, str, bool]]:
        """For each variable with bounds: its name, what it must be, and whether it is."""
        yield "INSTANCE", f"must be 1 to {MAX_INSTANCES}", 1 <= self.instance <= MAX_INSTANCES
        highest = 65535 - self.port_shift
        port = f"must be 0 to {highest}" + (f", since INSTANCE is {self.instance}" if self.port_shift else "")
        yield "PORT", port, 0 <= self.port <= highest
        yield "SOCKET_PORT", port, 0 <= self.socket_port <= highest
        pool = "must be at least 2: one connection commits sends, the others serve the rest"
        yield "DATABASE_POOL", pool, self.database_pool >= 2
        yield "MAX_ADDRESS_CONNECTIONS", "must be at least 1", self.max_address_connections >= 1
        sockets = "must be ws:// or wss:// URLs without a path, in lower case, with commas between them, or empty"
        yield "PUBLIC_SOCKET_URL", sockets, _are_sockets(self.public_socket_url)
        yield "WEB_CLIENT", "must be 0 or 1", self.web_client in (0, 1)
        fault = web_origins_fault(self.cors_origins)
        yield "CORS_ORIGINS", fault, not fault
        factor = "must be 0.1 to 1000000"
        yield "RATE_LIMIT_FACTOR", factor, 0.1 <= self.rate_limit_factor <= 1_000_000
        modes = "must be open, invitation or closed"
        yield "REGISTRATION", modes, self.registration in REGISTRATION_MODES
        yield from self._external_rules()
        starts = "must be 0 (none) to 1000000"
        yield "NEW_CONVERSATIONS_PER_DAY", starts, 0 <= self.new_conversations_per_day <= 1_000_000
        yield "WORKER_CONCURRENCY", "must be 1 to 1000", 1 <= self.worker_concurrency <= 1000
        yield "METRICS_PORT", f"must be 0 to {highest - 2}", 0 <= self.metrics_port <= highest - 2
        yield "READY_GRACE_S", "must be 0 to 600", 0 <= self.ready_grace_s <= 600
        lifetime = "must be more than 0 and at most 315360000 (ten years)"
        yield "TOKEN_LIFETIME_S", lifetime, 0 < self.token_lifetime_s <= 3650 * 86400
        window = "must be more than 0 and less than 86400 (a day)"
        yield "OFFLINE_NOTICE_AFTER_S", window, 0 < self.offline_notice_after_s < 86400
        yield "READ_NOTICE_AFTER_S", window, 0 < self.read_notice_after_s < 86400
        pauses = "must be 1 to 20 numbers of seconds in rising order, separated by commas, up to 2592000 (30 days)"
        yield "NOTICE_PAUSES_S", pauses, _are_pauses(self.notice_pauses_s)
        database = "must be a libpq URL (postgresql://...) or DSN, with one port or a port per host"
        yield "DATABASE_URL", database, is_url(self.database_url)
        replicas = "must be libpq URLs (postgresql://...), separated by spaces"
        yield "DATABASE_REPLICA_URLS", replicas, all("://" in url and is_url(url) for url in self.replica_urls)
        for name, url in (
            ("REDIS_URL", self.redis_url),
            ("REDIS_BUS_URL", self.bus_url),
            ("REDIS_JOBS_URL", self.jobs_url),
        ):
            fault = redis_url_fault(url)
            yield name, fault, not fault
        fault = objects_url_fault(self.object_store_url)
        yield "OBJECT_STORE_URL", fault, not fault
        yield from self._attachment_rules()
        days = "must be 0 (keep for ever), or 0.001 to 3650"
        yield "RETENTION_DAYS", days, self.retention_days == 0 or 0.001 <= self.retention_days <= 3650
        yield "ACCOUNT_DELETION_DAYS", "must be 0 to 365", 0 <= self.account_deletion_days <= 365
        yield "RETENTION_ARCHIVES", "must be 0 or 1", self.retention_archives in (0, 1)
        yield "SECURITY_EVENTS_DAYS", "must be 1 to 3650", 1 <= self.security_events_days <= 3650
        where = "needs OBJECT_STORE_URL, which keeps the archives"
        yield "RETENTION_ARCHIVES", where, not self.retention_archives or bool(self.object_store_url)
        hook = "must be an http:// or https:// URL, or empty"
        yield (
            "OFFLINE_NOTICE_URL",
            hook,
            not self.offline_notice_url or _has_scheme(self.offline_notice_url, "http", "https"),
        )
        yield from self._mail_rules()
        files = "must be an http:// or https:// URL of at most 200 characters, without a query, or empty"
        yield "PUBLIC_FILES_URL", files, not self.public_files_url or _is_base(self.public_files_url)
        if not objects_url_fault(self.object_store_url) and _is_base(self.public_files_url):
            fault = public_url_fault(self.public_files_url, self.object_store_url)
            yield "PUBLIC_FILES_URL", fault, not fault
        shown = "must be at least 16 characters of ASCII without spaces, or empty"
        yield "OPS_TOKEN", shown, not self.ops_token or (len(self.ops_token) >= 16 and _is_visible(self.ops_token))
        yield from self._notifier_rules()
        levels = "must be debug, info, warning or error"
        yield "LOG_LEVEL", levels, self.log_level in ("debug", "info", "warning", "error")
        yield from self._telemetry_rules()
        yield "LOG_LINES_PER_S", "must be 1 to 100000", 1 <= self.log_lines_per_s <= 100_000
        yield "SLOW_QUERY_S", "must be 0.01 to 10 (no statement may take longer)", 0.01 <= self.slow_query_s <= 10
        yield "LOG_FORMAT", "must be json, console or empty", self.log_format in ("json", "console", "")

    def _telemetry_rules(self) -> Iterator[tuple[str, str, bool]]:
        endpoint, dsn = self.otel_exporter_otlp_endpoint, self.sentry_dsn
        collector = "must be an http:// or https:// URL, or empty"
        yield "OTEL_EXPORTER_OTLP_ENDPOINT", collector, not endpoint or _has_host(endpoint, "http", "https")
        yield "OTEL_TRACES_SAMPLER_ARG", "must be 0 to 1", 0 <= self.otel_traces_sampler_arg <= 1
        yield (
            "SENTRY_DSN",
            "must be https://KEY@HOST/PROJECT with a number as the project, or empty",
            not dsn or _is_dsn(dsn),
        )

    def _external_rules(self) -> Iterator[tuple[str, str, bool]]:
        whole = bool(self.external_issuer)
        name = "must be 1 to 255 characters of ASCII without spaces, or empty"
        yield "EXTERNAL_ISSUER", name, len(self.external_issuer) <= 255 and _is_visible(self.external_issuer)
        audience = "must be set if EXTERNAL_ISSUER is, and not otherwise"
        yield "EXTERNAL_AUDIENCE", audience, bool(self.external_audience) == whole
        url = "must be an https:// URL, or empty"
        yield "EXTERNAL_JWKS_URL", url, not self.external_jwks_url or _has_host(self.external_jwks_url, "https")
        secret = "must be 32 bytes or more, and no key of PEM or SSH; or empty"  # noqa: S105
        yield "EXTERNAL_SECRET", secret, not self.external_secret or _is_shared_secret(self.external_secret)
        keys = "needs one of EXTERNAL_JWKS_URL and EXTERNAL_SECRET, which need it"
        yield "EXTERNAL_ISSUER", keys, bool(self.external_jwks_url) + bool(self.external_secret) == whole

    def _attachment_rules(self) -> Iterator[tuple[str, str, bool]]:
        yield "MAX_ATTACHMENT_BYTES", "must be 1 to 8589934592 (8 GiB)", 1 <= self.max_attachment_bytes <= 8 * 1024**3
        yield "MAX_AVATAR_BYTES", "must be 1 to 8388608 (8 MiB)", 1 <= self.max_avatar_bytes <= ATTACHMENT_PART_BYTES
        yield "AVATARS", "must be encrypted or public", self.avatars in AVATAR_MODES
        most = "must be 0 (no limit), or up to 2^60"
        for name, value in (
            ("ATTACHMENT_BYTES_PER_USER", self.attachment_bytes_per_user),
            ("ATTACHMENT_BYTES_PER_DAY", self.attachment_bytes_per_day),
            ("ATTACHMENT_BYTES_TOTAL", self.attachment_bytes_total),
        ):
            yield name, most, 0 <= value <= 2**60
        yield "OPEN_UPLOADS_PER_USER", "must be 0 (no limit) to 1000000", 0 <= self.open_uploads_per_user <= 1_000_000

    def _mail_rules(self) -> Iterator[tuple[str, str, bool]]:
        fault = smtp_url_fault(self.smtp_url) if self.smtp_url else ""
        yield "SMTP_URL", fault, not fault
        fault = sender_fault(self.mail_from) if self.mail_from or self.smtp_url else ""
        yield "MAIL_FROM", fault, not fault
        link = "must be an http:// or https:// URL of at most 200 characters, without a query; SMTP_URL needs it"
        yield "PUBLIC_URL", link, _is_base(self.public_url) if self.public_url or self.smtp_url else True

    def _notifier_rules(self) -> Iterator[tuple[str, str, bool]]:
        signs = "must be whsec_ and base64 of 24 to 64 bytes, or empty"
        yield "OFFLINE_NOTICE_SECRET", signs, not self.offline_notice_secret or _is_secret(self.offline_notice_secret)
        networks = "must be addresses and networks, separated by commas, or empty"
        yield "NOTIFIER_NETWORKS", networks, _are_networks(self.notifier_networks)
        key = "must be the 32 bytes of a P-256 key in base64url, or empty"
        yield "VAPID_PRIVATE_KEY", key, not self.vapid_private_key or len(_base64url(self.vapid_private_key)) == 32
        contact = "must be a mailto: or https: URL; VAPID_PRIVATE_KEY needs one"
        has_contact = self.vapid_contact.startswith(("mailto:", "https://"))
        yield "VAPID_CONTACT", contact, has_contact or (not self.vapid_contact and not self.vapid_private_key)
        for name, value in (
            ("APNS_KEY_ID", self.apns_key_id),
            ("APNS_TEAM_ID", self.apns_team_id),
            ("APNS_TOPIC", self.apns_topic),
        ):
            yield name, "must be set: APNS_KEY needs it", bool(value or not self.apns_key)
        service = "must be an https:// URL"
        yield "APNS_URL", service, _has_scheme(self.apns_url, "https")
        yield "FCM_URL", service, _has_scheme(self.fcm_url, "https")


def _are_pauses(text: str) -> bool:
    try:
        pauses = [float(each) for each in text.split(",")]
    except ValueError:
        return False
    is_growing = all(one <= next_one for one, next_one in pairwise(pauses))
    return len(pauses) <= 20 and is_growing and pauses[0] > 0 and pauses[-1] <= 30 * 86400


def _is_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        return False


def _base64url(text: str) -> bytes:
    """The decoded bytes; empty if the text is not base64url."""
    try:
        return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""


def _are_networks(text: str) -> bool:
    try:
        return all(ip_network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError:
        return False


def _are_sockets(text: str) -> bool:
    return not web_origins_fault(text) and all(each.startswith(("ws://", "wss://")) for each in web_origins(text))


def _is_base(url: str) -> bool:
    """Whether paths can be appended to this URL."""
    is_good = _has_scheme(url, "http", "https") and not set(url) & set('?# <>"')
    return is_good and url.isascii() and len(url) <= 200


def _has_scheme(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises if it is not a number)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc or parts.path)


def _has_host(url: str, *schemes: str) -> bool:
    return _has_scheme(url, *schemes) and bool(urlsplit(url).hostname)


def _is_dsn(text: str) -> bool:
    if not _has_host(text, "http", "https"):
        return False
    parts = urlsplit(text)
    return bool(parts.username) and parts.path.rpartition("/")[2].isdecimal() and not parts.query


def _is_shared_secret(text: str) -> bool:
    """Whether it may be a secret. A public key in its place would let everybody sign (RFC 8725, section 2.1)."""
    return len(text.encode()) >= 32 and "-----BEGIN" not in text and not text.startswith(("ssh-", "ecdsa-sha2-"))


def _is_visible(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)
