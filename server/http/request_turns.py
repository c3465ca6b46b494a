"""The requests of a process run in turn: one user, or one crowd of strangers, delays no other user by more than a few.

A process has one processor, so 300 requests that run at once take 300 times as long each. Here few run at a time, and
the others wait before anything else is done for them. Requests with a token that is known to be good take turns by
user. All other requests have turns of their own, by address: there are as many addresses as an attacker has, so all
strangers together get only few.

A turn ends with the answer, before that is written, or as soon as the request waits for its client: neither slow
clients nor refusals that take their time keep others waiting (`server.http.hypercorn_seam`).

A load balancer that asks for the health of the process waits for no turn, although it has no token: strangers must not
make it take the process out of service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from server.http.open_connections import MAX_CONNECTIONS
from server.http.request_headers import Headers, token_in
from server.http.turns import Turns
from server.transport.proxies import TrustedProxies, address_key, forwarded_address
from store.errors import Overloaded

RUNNING: Final = 8
"""Requests of users that run at a time: reads that run together share round trips, and each delays the others."""

RUNNING_EACH: Final = 2
"""Requests of one user that run at a time: while one waits for Postgres, the next one runs."""

RUNNING_STRANGERS: Final = 4
"""Requests of strangers that run at a time: enough to keep a processor busy that nobody else needs."""

UNTURNED: Final = frozenset(("/healthz", "/readyz"))
"""Paths whose requests run at once: they cost next to nothing, and their class bounds them for each address."""

LARGE_BODIES: Final = 16
"""Large bodies (`server.http.large_bodies`) that are read, and held until the answer, at a time: some 30 MB, with what
is made of one at a time."""

LARGE_WAITING: Final = 64
"""Requests that wait to send a large body."""

WAIT_S: Final = 5.0
"""For a turn, as for a connection to Postgres: then the client has given up, too."""


class Turn:
    """The turn of a request.

    :param turns: None: the request needs none.
    """

    __slots__ = ("_source", "_turns")

    def __init__(self, turns: Turns | None, source: bytes | str) -> None:
        self._turns = turns
        self._source = source

    def end(self) -> None:
        """Let the next request run. Does nothing if the turn has ended. Atomic (no checkpoint)."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.end(self._source)


class RequestTurns:
    """The turns of one process.

    :param user_of: the user of a token that is known to be good, or None; synchronous.
    :param proxies: those that may name the client's address.
    """

    def __init__(self, user_of: Callable[[str], bytes | None], proxies: TrustedProxies) -> None:
        self._user_of = user_of
        self._proxies = proxies
        self._users = _turns("requests of users", RUNNING)
        self._strangers = _turns("requests of strangers", RUNNING_STRANGERS)

    def by_source(self) -> dict[str, Turns]:
        """The turns of users and of strangers, by name."""
        return {"users": self._users, "strangers": self._strangers}

    async def begin(self, peer: str, headers: Headers, path: str) -> Turn | None:
        """Wait for the turn of a request; None if it does not come in time.

        :param peer: the address of the connection's other end, or the one that its PROXY header names.
        :param path: of the request, without its query.
        """
        if path in UNTURNED:
            return Turn(None, peer)
        token = token_in(headers)
        user = self._user_of(token) if token else None
        turns, source = (self._strangers, self._address(peer, headers)) if user is None else (self._users, user)
        try:
            await turns.begin(source)
        except Overloaded:
            return None
        return Turn(turns, source)

    def _address(self, peer: str, headers: Headers) -> str:
        return address_key(forwarded_address(peer, headers.get("x-forwarded-for", ""), self._proxies))


def _turns(name: str, running: int) -> Turns:
    # The connections bound the requests that wait: each has one.
    most = MAX_CONNECTIONS
    return Turns(name, running=running, running_each=RUNNING_EACH, waiting=most, waiting_each=most, wait_s=WAIT_S)


def large_body_turns() -> Turns:
    """The places of the large bodies of a process."""
    return Turns(
        "large bodies",
        running=LARGE_BODIES,
        running_each=1,
        waiting=LARGE_WAITING,
        waiting_each=2,
        wait_s=WAIT_S,
    )
