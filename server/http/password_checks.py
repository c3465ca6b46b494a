"""A request shows a password: the guess is counted, the password checked, and a wrong one becomes a security event."""

from __future__ import annotations

from functools import partial
from typing import Any

from server.http.guesses import device_key, name_key
from server.http.routing import Request
from server.transport.proxies import address_key
from store import security_events
from store.security_events import Source


async def check_password(
    request: Request[Any],
    password_hash: str | None,
    password: str,
    *,
    user: bytes | None,
    device: bytes | None,
    name: str = "",
    failure: str,
    source: Source,
) -> str | None:
    """The hash to keep if the password is right, as `Passwords.check` returns it; None if it is wrong.

    The guess counts before the password is checked. A right password ends the count.

    :param password_hash: None: the user has none, or does not exist; the check takes as long.
    :param user: whose account it is; None: nobody's.
    :param device: the known device that asks, whose guesses and turns are its own; None: an address asks.
    :param name: the user's, under which the guesses of addresses count.
    :param failure: the kind of the security event if the password is wrong.
    :raises TooManyGuesses: if the account rests.
    :raises RateLimited, Overloaded: as `Passwords.check`.
    """
    services = request.services
    guesses = name_key(name) if device is None else device_key(device)
    kept_hash = await services.passwords.check(
        password_hash,
        password,
        source=device or address_key(request.address),
        is_known=device is not None,
        admit=partial(services.guesses.admit, guesses),
    )
    if kept_hash is None:
        await security_events.note(services.pool, failure, user, source, is_counted=True)
    else:
        await services.guesses.forget(guesses)
    return kept_hash
