"""Security events."""

from __future__ import annotations

from msgspec import Struct

from server.http.encoding import Encoding, Ident, ident_or_none
from store.security_events import Actor, SecurityEvent


class SecurityEventAnswer(Struct, frozen=True):
    """An event of the security of an account.

    :ivar kind: such as `login`.
    :ivar user: the owner of the account; null: the event concerns no user.
    :ivar at: microseconds since 1970-01-01T00:00Z.
    :ivar actor: a user, an operator or a job of the server acted.
    :ivar device: the device that acted, or that was made; null: none.
    :ivar network: that the request came from: of IPv4 the first 24 bits, of IPv6 the first 48; null: unknown.
    :ivar client: the program that the request named.
    :ivar detail: further facts of this kind of event.
    :ivar times: more than 1: it happened several times in one hour, always alike.
    :ivar last: when it happened last, if such events are counted.
    """

    kind: str
    user: Ident | None
    at: int
    actor: Actor
    device: Ident | None
    network: str | None
    client: str | None
    detail: dict[str, str | bool]
    times: int
    last: int | None


class SecurityEventsAnswer(Struct, frozen=True):
    """A page of security events, the newest first.

    :ivar cursor: gets the next page; null: this page is the last.
    """

    events: list[SecurityEventAnswer]
    cursor: str | None


def event_body(event: SecurityEvent, encoding: Encoding) -> SecurityEventAnswer:
    return SecurityEventAnswer(
        kind=event.kind,
        user=ident_or_none(event.user, encoding),
        at=event.at,
        actor=event.actor,
        device=ident_or_none(event.device, encoding),
        network=event.network,
        client=event.client,
        detail=event.detail,
        times=event.times,
        last=event.last,
    )
