"""Routes: registering and logging in."""

from __future__ import annotations

from uuid import UUID

import trio
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers, bodies
from server.http.frame import (
    ApiError,
    answer,
    body_of,
    encoding_asked,
    identify,
)
from server.http.passwords import Passwords
from store import accounts, profiles
from store.accounts import Account
from store.errors import (
    UnknownUser,
)
from store.postgres.pool import Pool


def add_accounts(app: QuartTrio, pool: Pool, passwords: Passwords, token_lifetime_s: float) -> None:
    @app.post("/v1/users")
    async def register() -> ResponseReturnValue:
        body = await body_of(bodies.Register)
        password_hash = await passwords.hash(body.password)
        # A client that hangs up cancels its handler; a write is finished all the same (its own deadline holds).
        with trio.CancelScope(shield=True):
            user = await accounts.add_user(pool, body.username, password_hash)
        return answer({"user": UUID(bytes=user), "username": body.username}, 201)

    @app.post("/v1/devices")
    async def log_in() -> ResponseReturnValue:
        body = await body_of(bodies.LogIn)
        account = await _account(pool, body.username)
        password_hash = account.password_hash if account else None
        if not await passwords.check(password_hash, body.password) or account is None:
            raise ApiError(401, "wrong_credentials", "no user of that name has that password")
        with trio.CancelScope(shield=True):
            device, token, expires = await accounts.add_device(
                pool, account.user, body.name, lifetime_s=token_lifetime_s
            )
        made = {"user": UUID(bytes=account.user), "device": UUID(bytes=device), "token": token, "expires": expires}
        return answer(made, 201)

    @app.get("/v1/users/<username>")
    async def user_of(username: str) -> ResponseReturnValue:
        asking = (await identify(pool)).user
        account = await _user_by_name(pool, username)
        shown = await profiles.shown_to(pool, account.user, asking)
        return answer(answers.user_body(account.user, shown, encoding_asked()))


async def _account(pool: Pool, username: str) -> Account | None:
    try:
        return await _user_by_name(pool, username)
    except UnknownUser:
        return None


async def _user_by_name(pool: Pool, username: str) -> Account:
    # Postgres has no text with NUL, so it cannot even be asked for one.
    if "\0" in username:
        raise UnknownUser
    return await accounts.user_by_name(pool, username)
