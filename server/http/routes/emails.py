"""Routes: a user's address and what is sent there."""

from __future__ import annotations

import trio
from quart import Response
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers, bodies
from server.http.frame import (
    answer,
    body_of,
    identify,
)
from store import emails
from store.postgres.pool import Pool


def add_emails(app: QuartTrio, pool: Pool) -> None:
    @app.get("/v1/email")
    async def get_email() -> ResponseReturnValue:
        user = (await identify(pool)).user
        return answer(answers.email_body(await emails.email_settings_of(pool, user)))

    @app.put("/v1/email")
    async def put_email() -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.PutEmail)
        address = bodies.address_in(body)
        with trio.CancelScope(shield=True):
            await emails.put(
                pool,
                user,
                address,
                wants_digest=body.wants_digest,
                wants_device_notice=body.wants_device_notice,
                digest_hour=body.digest_hour,
                zone=body.zone,
            )
            settings = await emails.email_settings_of(pool, user)
        return answer(answers.email_body(settings))

    @app.delete("/v1/email")
    async def delete_email() -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            await emails.remove(pool, user)
        return Response(b"", 204)

    @app.post("/v1/email/verifications")
    async def verify() -> ResponseReturnValue:
        body = await body_of(bodies.Verify)
        with trio.CancelScope(shield=True):
            await emails.verify(pool, body.token)
        return Response(b"", 204)
