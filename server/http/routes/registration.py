"""Registering: who may, and the new user."""

from __future__ import annotations

from msgspec import Struct

from server.http import bodies
from server.http.answers.accounts import RegistrationAnswer
from server.http.answers.devices import RegisteredAnswer
from server.http.encoding import IDENT
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routing import NOTHING, Answer, Request, Routes
from server.http.services import Services
from server.http.sources import source_of
from server.transport.proxies import address_key
from store import accounts, invitations

routes = Routes()


class NewUser(Struct, frozen=True):
    username: str
    password_hash: str
    invitation: str | None


async def check_may_register(services: Services, invitation: str | None) -> str | None:
    """Check that a user may register. Nothing is told of names before that.

    :param invitation: the code that the request shows; None: it shows none.
    :returns: the code that the registration uses; None: it needs none.
    :raises Problem: if the mode of registration does not allow it.
    :raises InvitationVoid: if no user can register with this code.
    """
    match services.registration:
        case "open":
            return None
        case "invitation":
            if invitation is None:
                detail = "this server takes users with an invitation: ask its operator for one, and send its code"
                raise Problem(ProblemCode.INVITATION_REQUIRED, f"{detail} in `invitation`", pointer="#/invitation")
            await invitations.check(services.pool, invitation)
            return invitation
        case "closed":
            detail = "this server takes no new users: log in with an account that you have, or ask its operator"
            raise Problem(ProblemCode.REGISTRATION_CLOSED, detail)


@routes.open_read("GET /v1/registration", answer=RegistrationAnswer)
async def get_registration(request: Request[None]) -> Answer:
    """Tell who may register, and whether users log in with tokens of another issuer."""
    issuer = request.services.external_issuer
    return Answer(RegistrationAnswer(request.services.registration, None if issuer is None else issuer.issuer))


async def _hash_password(request: Request[bodies.Register]) -> NewUser:
    body, services = request.body, request.services
    invitation = await check_may_register(services, body.invitation)
    username = bodies.username_in(body.username)
    password_hash = await services.passwords.hash(body.password, username, source=address_key(request.address))
    return NewUser(username, password_hash, invitation)


@routes.open_write(
    "POST /v1/users",
    body=bodies.Register,
    prepare=_hash_password,
    announces=NOTHING,
    answer=RegisteredAnswer,
    statuses=[201],
    problems=[
        ProblemCode.REGISTRATION_CLOSED,
        ProblemCode.INVITATION_REQUIRED,
        ProblemCode.INVITATION_VOID,
        ProblemCode.INVALID_USERNAME,
        ProblemCode.USERNAME_RESERVED,
        ProblemCode.USERNAME_TAKEN,
        ProblemCode.WEAK_PASSWORD,
    ],
    request_class=RequestClass.REGISTRATION,
)
async def register(request: Request[NewUser]) -> Answer:
    """Register a user.

    `GET /v1/registration` tells whether you need an invitation. One use of it is taken if the user is registered, and
    none otherwise.
    """
    new = request.body
    user = await accounts.add_user(
        request.services.pool,
        new.username,
        new.password_hash,
        invitation=new.invitation,
        source=source_of(request),
    )
    return Answer(RegisteredAnswer(IDENT[request.encoding](user), new.username), 201)
