"""A user's e-mail address, its verification, and the mails that the user wants."""

from __future__ import annotations

from runtime.email_address import mailbox
from server.http import bodies
from server.http.answers.settings import ChangedEmailAnswer, EmailAnswer, changed_email_body, email_body
from server.http.authentication import bearer_token
from server.http.problem_codes import ProblemCode
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from store import emails, tokens
from store.errors import AccountSuspended, DeviceRevoked, TokenExpired, TokenReused, TokenUnknown
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/email", answer=EmailAnswer)
async def get_email(identity: Identity, request: Request[None]) -> Answer:
    """Get your address, and the mails that you want."""
    return Answer(email_body(await emails.email_settings_of(request.services.pool, identity.user)))


@routes.write(
    "PUT /v1/email",
    body=bodies.PutEmail,
    announces=NOTHING,
    answer=ChangedEmailAnswer,
    problems=[ProblemCode.TOO_MANY_MAILS],
    request_class=RequestClass.MAIL,
    confirmed=True,
)
async def put_email(identity: Identity, request: Request[bodies.PutEmail]) -> Answer:
    """Set your address, and the mails that you want.

    If the address is not verified, a mail is on its way to it. `sends_mail` is false if it is verified, or if the mails
    to this mailbox are used up for today: then the token of a mail that came there lately verifies it, although a
    different user has asked for that mail.
    """
    pool, body = request.services.pool, request.body
    address = bodies.address_in(body)
    sends_mail = await emails.put(
        pool,
        identity.user,
        address,
        mailbox=mailbox(address),
        wants_digest=body.wants_digest,
        wants_device_notice=body.wants_device_notice,
        digest_hour=body.digest_hour,
        zone=body.zone,
        source=source_of(request, identity),
    )
    return Answer(changed_email_body(await emails.email_settings_of(pool, identity.user), sends_mail=sends_mail))


@routes.write("DELETE /v1/email", announces=NOTHING, confirmed=True)
async def delete_email(identity: Identity, request: Request[None]) -> Answer:
    """Remove your address."""
    await emails.remove(request.services.pool, identity.user, source=source_of(request, identity))
    return NO_CONTENT


@routes.open_write(
    "POST /v1/email/verifications",
    body=bodies.Verify,
    announces=NOTHING,
    problems=[ProblemCode.UNKNOWN_VERIFICATION, ProblemCode.VERIFICATION_EXPIRED],
)
async def verify(request: Request[bodies.Verify]) -> Answer:
    """Verify an address with the token from the mail's link.

    With the token of a device in `Authorization` it verifies the address of that user, if the mail went there,
    although a different user has asked for it.
    """
    user = await _user_shown(request)
    await emails.verify(request.services.pool, request.body.token, user=user, source=source_of(request))
    return NO_CONTENT


async def _user_shown(request: Request[bodies.Verify]) -> bytes | None:
    """The user whose token the request shows; None if it shows no good one, which it need not."""
    token = bearer_token(request)
    try:
        return (await tokens.device_by_token(request.services.pool, token)).user if token else None
    except (TokenUnknown, TokenExpired, DeviceRevoked, TokenReused, AccountSuspended):
        return None
