"""Another password for a user who does not know it, by a mail to the verified address."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from runtime.usernames import form_of
from server.http import bodies, mail_pages
from server.http.answers.accounts import ResetAskedAnswer
from server.http.authentication import bearer_token
from server.http.decoding import InvalidBody
from server.http.problem_codes import ProblemCode
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Answer, HtmlAnswer, Request, Routes
from server.http.sources import source_of
from server.transport.proxies import address_key
from store import password_resets, tokens
from store.errors import ResetExpired, ResetUnknown

routes = Routes()


class PasswordByToken(Struct, frozen=True):
    token: str
    password_hash: str


@routes.open_write(
    "POST /v1/password-resets",
    body=bodies.AskPasswordReset,
    announces=NOTHING,
    answer=ResetAskedAnswer,
    statuses=[202],
    request_class=RequestClass.MAIL,
)
async def ask_reset(request: Request[bodies.AskPasswordReset]) -> Answer:
    """Ask for a mail with a link that sets another password.

    It goes to the verified address of the account. While the link of the last one is good, no other follows, unless a
    device of the user asks, with its token in `Authorization`: at most 5 times a day. The answer is the same, and takes
    as long, if there is no such account or no such address. A link is good for `lifetime_s` at least; its mail says
    until when.
    """
    body = request.body
    address = None if body.address is None else bodies.address_in(body)
    username = None if body.username is None else form_of(body.username)
    pool, token = request.services.pool, bearer_token(request)
    known = await tokens.device_known_by(pool, token) if token else None
    await password_resets.ask(pool, username=username, address=address, known=known[0] if known else None)
    return Answer(ResetAskedAnswer(int(password_resets.LIFETIME_S)), 202)


async def _hash_password(request: Request[bodies.ResetPassword]) -> PasswordByToken:
    body, services = request.body, request.services
    # A hash costs far more than this look-up.
    username = await password_resets.check(services.pool, body.token)
    password_hash = await services.passwords.hash(
        body.new_password, username, source=address_key(request.address), field="new_password"
    )
    return PasswordByToken(body.token, password_hash)


@routes.open_write(
    "PUT /v1/password-resets",
    body=bodies.ResetPassword,
    prepare=_hash_password,
    announces=NOTHING,
    problems=[ProblemCode.WEAK_PASSWORD, ProblemCode.UNKNOWN_RESET, ProblemCode.RESET_EXPIRED],
    request_class=RequestClass.LOGIN,
)
async def reset_password(request: Request[PasswordByToken]) -> Answer:
    """Set another password by the token of a mail.

    All devices are logged out, other tokens are void, and a mail says that the password was changed.
    """
    await password_resets.reset(
        request.services.pool, request.body.token, request.body.password_hash, source=source_of(request)
    )
    return NO_CONTENT


@routes.page("GET /v1/password-resets/<token>")
async def show_reset(request: Request[None], token: str) -> HtmlAnswer:
    """Show the page with the form for another password."""
    return mail_pages.page(mail_pages.RESET)


@routes.page(
    "POST /v1/password-resets/<token>",
    form=bodies.ResetPasswordForm,
    announces=NOTHING,
    statuses=[200, 400, 404, 410],
)
async def reset_on_page(request: Request[bodies.ResetPasswordForm], token: str) -> HtmlAnswer:
    """Set another password from its page."""
    services, source = request.services, address_key(request.address)
    try:
        password = msgspec.convert(request.body.new_password, bodies.Password)
    except msgspec.ValidationError:
        return mail_pages.page(mail_pages.RESET_AGAIN, 400)
    try:
        username = await password_resets.check(services.pool, token)
        password_hash = await services.passwords.hash(password, username, source=source)
        await password_resets.reset(services.pool, token, password_hash, source=source_of(request))
    except InvalidBody:
        return mail_pages.page(mail_pages.RESET_AGAIN, 400)
    except ResetUnknown:
        return mail_pages.page(mail_pages.RESET_UNKNOWN, 404)
    except ResetExpired:
        return mail_pages.page(mail_pages.RESET_EXPIRED, 410)
    return mail_pages.page(mail_pages.RESET_DONE)
