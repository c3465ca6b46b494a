"""A user's notifiers: webhooks, e-mail, and push services of devices."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from server.http import notifiers
from server.http.answers.notifiers import (
    AddedNotifierAnswer,
    Kind,
    NotifierKeysAnswer,
    NotifiersAnswer,
    added_body,
    notifier_body,
)
from server.http.notifiers import NewNotifier
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from store import notifiers as notifiers_store
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/notifiers/keys", answer=NotifierKeysAnswer)
async def get_keys(identity: Identity, request: Request[None]) -> Answer:
    """Get the kinds of notifiers that this deployment offers, and the key that browsers subscribe with."""
    offered = request.services.offered
    return Answer(NotifierKeysAnswer(cast(list[Kind], sorted(offered.kinds)), offered.vapid_public_key))


@routes.read("GET /v1/notifiers", answer=NotifiersAnswer)
async def list_notifiers(identity: Identity, request: Request[None]) -> Answer:
    """List your notifiers, the oldest first."""
    found = await notifiers_store.notifiers_of(request.services.pool, identity.user)
    return Answer(NotifiersAnswer([notifier_body(each, request.encoding) for each in found]))


@routes.write(
    "POST /v1/notifiers",
    body=notifiers.NEW_NOTIFIER,
    announces=NOTHING,
    answer=AddedNotifierAnswer,
    statuses=[201, 200],
    problems=[ProblemCode.NOTIFIER_NOT_OFFERED, ProblemCode.TOO_MANY_NOTIFIERS],
)
async def add_notifier(identity: Identity, request: Request[NewNotifier]) -> Answer:
    """Add a notifier.

    The answer has the status 200 if it was there. Push services notify this device alone; a webhook gets a new secret.
    """
    services, target = request.services, notifiers.target_of(request.body)
    kind = notifiers_store.kind_of(target)
    if kind not in services.offered.kinds:
        has = ", ".join(sorted(services.offered.kinds))
        raise Problem(ProblemCode.NOTIFIER_NOT_OFFERED, f"this deployment has no {kind}; it has {has}")
    device = identity.device if notifiers.is_of_device(target) else None
    added = await notifiers_store.add(services.pool, identity.user, target, device=device)
    return Answer(added_body(added, target, request.encoding), 201 if added.is_new else 200)


@routes.write("DELETE /v1/notifiers/<uuid:notifier>", announces=NOTHING, problems=[ProblemCode.UNKNOWN_NOTIFIER])
async def remove_notifier(identity: Identity, request: Request[None], notifier: UUID) -> Answer:
    """Remove a notifier."""
    await notifiers_store.remove(request.services.pool, identity.user, notifier.bytes)
    return NO_CONTENT
