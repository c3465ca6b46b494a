"""The HTTP interface: routes, and errors by name. `docs/http.md` describes it; the one file that meets Quart."""

from __future__ import annotations

from quart_trio import QuartTrio

from server.http.announcements import Announcements
from server.http.first_pages import FirstPages
from server.http.offered import WEBHOOKS, Offered
from server.http.ops import Ops
from server.http.passwords import Passwords
from server.http.problems import add_errors
from server.http.routes.accounts import add_accounts
from server.http.routes.contacts import add_contacts
from server.http.routes.conversations import add_conversations
from server.http.routes.devices import add_devices
from server.http.routes.emails import add_emails
from server.http.routes.health import add_health
from server.http.routes.mail_links import add_mail_links
from server.http.routes.messages import add_messages
from server.http.routes.notifiers import add_notifiers
from server.http.routes.ops import add_ops
from server.http.routes.participants import add_participants
from server.http.routes.profiles import add_profiles
from server.http.routes.quiet_hours import add_quiet_hours
from server.http.routes.requests import add_requests
from store import conversations
from store.postgres.pool import Pool
from store.redis.client import Redis

MAX_BODY_BYTES = 64 * 1024
"""A group of 999 participants in JSON has 39 KB."""


def create_app(
    pool: Pool,
    redis: Redis,
    announcements: Announcements,
    *,
    token_lifetime_s: float,
    ops_token: str = "",
    offered: Offered = WEBHOOKS,
    starts_per_day: int = conversations.STARTS_PER_DAY,
) -> QuartTrio:
    """The application; Hypercorn runs it (`server.http.process`).

    :param ops_token: what operators show (`server.http.ops`); empty: there are no routes for them.
    :param offered: which notifiers workers have keys for.
    :param starts_per_day: conversations with strangers that a user may begin in 24 hours.
    """
    app = QuartTrio(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    add_accounts(app, pool, Passwords(), token_lifetime_s)
    add_devices(app, pool, token_lifetime_s)
    add_profiles(app, pool, announcements)
    add_emails(app, pool)
    add_mail_links(app, pool)
    add_notifiers(app, pool, offered)
    add_quiet_hours(app, pool, announcements)
    add_contacts(app, pool, redis, announcements)
    pages = FirstPages(pool)
    add_conversations(app, pool, pages, announcements, starts_per_day)
    add_messages(app, pool, pages)
    add_participants(app, pool, announcements, starts_per_day)
    add_requests(app, pool, announcements)
    add_health(app, pool, redis)
    if ops_token:
        add_ops(app, Ops(pool, ops_token))
    add_errors(app)
    return app
