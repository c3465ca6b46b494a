"""Classes of requests, and the limits of each. A route declares its class (`server.http.routing`).

The limits are token buckets: `burst` requests at once after a rest, and `per_s` a second in the long run. They count
the requests of one address (one /64 of IPv6) where no user is known yet, and those of one user, on all devices, after
that. Many users may share one address, so a request with a good token counts for its user alone.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class RequestClass(Enum):
    """Requests that are limited together, because they cost the server, or help an attacker, in the same way."""

    HOT_READ = "hot_read"
    READ = "read"
    WRITE = "write"
    SEARCH = "search"
    UPLOAD = "upload"
    STATE = "state"
    LOGIN = "login"
    REGISTRATION = "registration"
    MAIL = "mail"
    EXPORT = "export"
    FILE = "file"
    OPEN = "open"
    HEALTH = "health"
    OPERATOR = "operator"
    UNAUTHENTICATED = "unauthenticated"


class Allowance(NamedTuple):
    """The requests that one address or user may make.

    :ivar burst: at once, after a rest.
    :ivar per_s: in a second, in the long run.
    """

    burst: int
    per_s: float


class ClassLimits(NamedTuple):
    """The limits of a class.

    :ivar requests: which they are, and why they have limits of their own.
    :ivar address: for one address; None: routes of this class need the token of a device.
    :ivar user: for one user; None: routes of this class do not.
    :ivar is_exact: counted in Redis, for all processes together; otherwise by each process alone (decision 38).
    """

    requests: str
    address: Allowance | None
    user: Allowance | None
    is_exact: bool = False


LIMITS: Final[dict[RequestClass, ClassLimits]] = {
    RequestClass.HOT_READ: ClassLimits(
        "the list of conversations, a conversation, history: a new device reads all of them", None, Allowance(500, 50)
    ),
    RequestClass.READ: ClassLimits("other reads", None, Allowance(300, 20), is_exact=True),
    RequestClass.WRITE: ClassLimits("changes", None, Allowance(300, 20), is_exact=True),
    RequestClass.SEARCH: ClassLimits(
        "users by name: no client needs all of them", None, Allowance(60, 0.2), is_exact=True
    ),
    RequestClass.UPLOAD: ClassLimits(
        "what asks the object store about uploads", None, Allowance(200, 5), is_exact=True
    ),
    RequestClass.STATE: ClassLimits(
        "states of groups that are put: 1 MiB of storage and of log each", None, Allowance(300, 0.01), is_exact=True
    ),
    RequestClass.LOGIN: ClassLimits(
        "passwords that are checked: guesses, and a core for each",
        Allowance(30, 0.5),
        Allowance(10, 0.1),
        is_exact=True,
    ),
    RequestClass.REGISTRATION: ClassLimits(
        "new users: names that are taken away, and a core for each", Allowance(20, 1 / 60), None, is_exact=True
    ),
    RequestClass.MAIL: ClassLimits("what sends a mail", Allowance(20, 1 / 60), Allowance(10, 1 / 60), is_exact=True),
    RequestClass.EXPORT: ClassLimits("what reads everything of a user", None, Allowance(3, 1 / 3600), is_exact=True),
    RequestClass.FILE: ClassLimits(
        "files of a folder, by signed URLs: a large file has many parts; those of the web client, some 200",
        Allowance(1000, 100),
        None,
    ),
    RequestClass.OPEN: ClassLimits(
        "pages from mails, the reference, and others without a token", Allowance(100, 5), None
    ),
    RequestClass.HEALTH: ClassLimits("`/healthz` and `/readyz`, apart from all others", Allowance(200, 20), None),
    RequestClass.OPERATOR: ClassLimits("what operators ask, and guesses of their token", Allowance(60, 1), None),
    RequestClass.UNAUTHENTICATED: ClassLimits(
        "requests whose token is missing or wrong, OPTIONS, and requests that fit no route or are no HTTP/1.1",
        Allowance(400, 20),
        None,
    ),
}
