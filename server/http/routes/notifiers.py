"""Routes: a user's notifiers."""

from __future__ import annotations

from uuid import UUID

import trio
from quart import Response
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import notifiers
from server.http.frame import (
    ApiError,
    answer,
    body_of,
    encoding_asked,
    identify,
)
from server.http.offered import Offered
from store import notifiers as notifiers_store
from store.postgres.pool import Pool


def add_notifiers(app: QuartTrio, pool: Pool, offered: Offered) -> None:
    @app.get("/v1/notifiers/keys")
    async def notifier_keys() -> ResponseReturnValue:
        await identify(pool)
        return answer({"kinds": sorted(offered.kinds), "vapid_public_key": offered.vapid_public_key})

    @app.get("/v1/notifiers")
    async def list_notifiers() -> ResponseReturnValue:
        user = (await identify(pool)).user
        encoding, found = encoding_asked(), await notifiers_store.notifiers_of(pool, user)
        return answer({"notifiers": [notifiers.notifier_body(each, encoding) for each in found]})

    @app.post("/v1/notifiers")
    async def add_notifier() -> ResponseReturnValue:
        identity = await identify(pool)
        target = notifiers.target_of(await body_of(notifiers.NEW_NOTIFIER))
        kind = notifiers_store.kind_of(target)
        if kind not in offered.kinds:
            has = ", ".join(sorted(offered.kinds))
            raise ApiError(409, "notifier_not_offered", f"this deployment has no {kind}; it has {has}")
        device = identity.device if notifiers.is_of_device(target) else None
        with trio.CancelScope(shield=True):
            added = await notifiers_store.add(pool, identity.user, target, device=device)
        return answer(notifiers.added_body(added, target, encoding_asked()), 201 if added.is_new else 200)

    @app.delete("/v1/notifiers/<uuid:notifier>")
    async def remove_notifier(notifier: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            await notifiers_store.remove(pool, user, notifier.bytes)
        return Response(b"", 204)
