"""Deleting the account of the user who asks."""

from __future__ import annotations

from server.http import bodies
from server.http.answers.accounts import DeletionAnswer
from server.http.routing import NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from store import account_deletions
from store.tokens import Identity

routes = Routes()


@routes.write(
    "PUT /v1/account/deletion", body=bodies.DeleteAccount, announces=NOTHING, answer=DeletionAnswer, confirmed=True
)
async def delete_account(identity: Identity, request: Request[bodies.DeleteAccount]) -> Answer:
    """Delete your account.

    All devices are logged out within a second, this one too. The account is deleted some days later, as the operator
    has set; until then you keep it by a login with `keeps_account`.
    """
    due = await account_deletions.close(
        request.services.pool,
        identity.user,
        delay_s=request.services.account_deletion_s,
        deletes_messages=request.body.deletes_messages,
        source=source_of(request, identity),
    )
    return Answer(DeletionAnswer(due))
