"""Events of the security of accounts: an audit log for users, of their own account, and for operators.

An event is written in the transaction of what it records: by `note_security_event()` in the statement or the stored
function that makes the change. `note` is for events without a change, such as a failed login.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("security_events")

KINDS: Final[dict[str, str]] = {
    "registered": "the account was made: `invitation` is the id of the one that the user had, if one was needed; `by`"
    " is `external_token` if the user came with a token of the external issuer",
    "login": "the first device of the user logged in; `by` is `external_token`, or absent: by the password",
    "new_device": "a further device logged in, as in `login`; the user gets a mail, if the user wants that",
    "login_failed": "a login with a wrong password, or, as `by` says, with a wrong external token; without a user: with"
    " an unknown name, or a token",
    "password_changed": "the password was changed: `ends_others` says whether the other devices were revoked",
    "password_reset": "the password was changed by a mail to the verified address; all devices were revoked",
    "confirmation_failed": "a device that is logged in showed a wrong password, or a wrong external token (`by`)",
    "device_revoked": "a device was revoked: `device` is its id and `name` its name",
    "token_reused": "a token was shown that had ended, so its device was revoked: `device` is its id and `name` its"
    " name; the user gets a mail, if the user wants that",
    "email_set": "the user set another e-mail address, or whether mails tell of new devices",
    "email_verified": "the e-mail address was verified",
    "email_removed": "the e-mail address was removed",
    "export_asked": "the user, or an operator, asked for a file with all data of the account",
    "account_closed": "the user, or an operator, asked to delete the account; all devices were revoked",
    "account_kept": "the user kept the account, by a login",
    "account_suspended": "an operator suspended the user: no device logs in, and tokens are refused",
    "account_unsuspended": "an operator lifted that",
    "password_voided": "an operator voided the password, and made a link by which the user sets another one; all"
    " devices were revoked",
    "node_drained": "an operator asked a node to stop: `node` is its id",
    "account_deleted": "the account was deleted; all earlier events are, too",
    "operator_request": "an operator sent a request: `route` says which",
    "job_replayed": "an operator had a dead job run again: `job` is its number",
    "events_read": "an operator read the security events of the user",
    "invitation_made": "an operator made an invitation: `invitation` is its id, `uses` how many users may use it",
    "invitation_revoked": "an operator revoked an invitation: `invitation` is its id",
}
"""The kinds of events -> what each says. A test causes each of them (`tests/server/http/test_security_events.py`)."""

MAX_CLIENT_CHARACTERS: Final = 256
"""The length of the name of a client's program. Browsers name themselves in some 120."""

MAX_OWN_ROWS: Final = 100
"""Events of a user and a kind in 24 hours that have rows of their own; the further ones of an hour share one. A user
who logs in and out without end fills no table, and a request that revokes all devices (`MAX_DEVICES`) names each."""

Actor: TypeAlias = Literal["user", "operator", "system"]


class Source(Struct, frozen=True):
    """The actor of an event, and the actor's network and program.

    :ivar actor: `user`: a request with or without a token of the user; `operator`: one with the operators' token, or a
        command; `system`: a job.
    :ivar address: of the client; of it only the network is stored. None, or no address of IP: unknown.
    :ivar client: the program, as the request names it. None: it names none.
    :ivar device: whose token the request shows. None: it shows none.
    :ivar operator: the name of an operator who typed a command, for other operators. None: it is not known.
    """

    actor: Actor
    address: str | None = None
    client: str | None = None
    device: bytes | None = None
    operator: str | None = None

    def encoded(self) -> str:
        """The parameter `p_source` of `note_security_event()`, as JSON."""
        client = "".join(each for each in self.client or "" if each.isprintable())[:MAX_CLIENT_CHARACTERS]
        fields = {
            "actor": self.actor,
            "address": _address(self.address or ""),
            "client": client or None,
            "device": self.device and self.device.hex(),
            "operator": self.operator,
        }
        return msgspec.json.encode(fields).decode()


def _address(text: str) -> str | None:
    """The address as Postgres reads it: without a scope, and IPv4 as itself where it is mapped into IPv6."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Address(int(ip)))
    return str(ip)


SYSTEM: Final = Source("system")
"""The source of events that a job causes."""


class SecurityEvent(Struct, frozen=True):
    """An event; times in microseconds since 1970.

    :ivar number: events have ascending ones.
    :ivar kind: one of `KINDS`.
    :ivar user: None: it concerns no user, such as a login with an unknown name.
    :ivar at: when it happened, or happened first.
    :ivar device: the device that acted, or that was made.
    :ivar network: that the request came from, such as `192.0.2.0/24`.
    :ivar client: the program that the request named.
    :ivar times: more than 1 for an event that happened several times in one hour, each time alike, or after
        `MAX_OWN_ROWS` others of its kind, with different details, which are not kept.
    :ivar last: when such an event happened last; None for other events.
    :ivar operator: the name of the operator, as in `Source`. Users do not see it.
    """

    number: int
    kind: str
    user: bytes | None
    at: int
    actor: Actor
    device: bytes | None
    network: str | None
    client: str | None
    detail: dict[str, Any]
    times: int
    last: int | None
    operator: str | None = None


async def note(
    pool: Pool,
    kind: str,
    user: bytes | None,
    source: Source,
    detail: dict[str, Any] | None = None,
    *,
    is_counted: bool = False,
) -> None:
    """Note an event that no change comes with.

    :param user: the owner of the account; None: the event concerns no user.
    :param detail: further facts to show; at most 1,024 characters of JSON, nothing secret.
    :param is_counted: events of one hour with the same kind, user and detail have one row: for events that anybody can
        cause at will.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind} is not in KINDS")
    parameters = {
        "kind": kind,
        "user": None if user is None else uuid(user),
        "source": source.encoded(),
        "detail": msgspec.json.encode(detail or {}).decode(),
        "is_counted": is_counted,
    }
    await pool.fetch(_sql.note, parameters)


async def events_of(pool: Pool, user: bytes, *, limit: int, before: int | None = None) -> list[SecurityEvent]:
    """A page of a user's events, the newest first.

    :param before: the number of the last event of the page before.
    """
    parameters = {"user": uuid(user), "limit": limit, "before": _NO_END if before is None else before}
    return [_event(*row) for row in await pool.fetch(_sql.of_user, parameters)]


async def all_events(pool: Pool, *, limit: int, before: int | None = None) -> list[SecurityEvent]:
    """A page of the events of all users and operators, the newest first.

    :param before: the number of the last event of the page before.
    """
    parameters = {"limit": limit, "before": _NO_END if before is None else before}
    return [_event(*row) for row in await pool.fetch(_sql.of_all, parameters)]


async def recent_events(pool: Pool, *, since: int, limit: int) -> list[SecurityEvent]:
    """The newest events of all users and operators, the newest first.

    :param since: in microseconds since 1970.
    """
    return [_event(*row) for row in await pool.fetch(_sql.recent, {"since": since, "limit": limit})]


async def forget_events(pool: Pool, *, days: int, limit: int) -> int:
    """Delete at most `limit` events from more than `days` days ago; return how many, 0 at the end."""
    [(count,)] = await pool.fetch(_sql.forget, {"days": days, "limit": limit})
    return int(count)


_NO_END: Final = 2**63 - 1


def _event(*row: Any) -> SecurityEvent:
    return SecurityEvent(*[*row[:8], msgspec.json.decode(row[8]), *row[9:]])
