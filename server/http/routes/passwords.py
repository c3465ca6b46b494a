"""The password of the user who asks: showing it once more."""

from __future__ import annotations

from server.http import bodies
from server.http.answers.devices import ConfirmedAnswer
from server.http.authentication import confirmed_until
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.routing import NOTHING, Answer, Request, Routes
from store import accounts, devices
from store.tokens import Identity

routes = Routes()


async def _check_password(identity: Identity, request: Request[bodies.Confirm]) -> str:
    """The hash that the password fits."""
    password_hash = await accounts.password_hash_of(request.services.pool, identity.user)
    if not await request.services.passwords.check(password_hash, request.body.password, source=identity.user):
        raise Problem(ProblemCode.WRONG_CREDENTIALS, "wrong password")
    return password_hash


@routes.write(
    "POST /v1/confirmations",
    body=bodies.Confirm,
    prepare=_check_password,
    announces=NOTHING,
    answer=ConfirmedAnswer,
    problems=[ProblemCode.WRONG_CREDENTIALS],
)
async def confirm(identity: Identity, request: Request[str]) -> Answer:
    """Show your password once more.

    For 10 minutes this device may do what a thief of its token must not. Logging in shows the password, too.
    """
    confirmed = await devices.confirm(request.services.pool, identity.user, identity.device, request.body)
    return Answer(ConfirmedAnswer(confirmed_until(confirmed)))
