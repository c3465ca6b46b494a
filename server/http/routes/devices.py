"""Routes: a user's devices and their tokens."""

from __future__ import annotations

from uuid import UUID

import trio
from quart import Response
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers
from server.http.frame import (
    answer,
    encoding_asked,
    identify,
    token_shown,
)
from store import accounts
from store.postgres.pool import Pool


def add_devices(app: QuartTrio, pool: Pool, token_lifetime_s: float) -> None:
    @app.get("/v1/devices")
    async def list_devices() -> ResponseReturnValue:
        user = (await identify(pool)).user
        encoding, devices = encoding_asked(), await accounts.devices_of(pool, user)
        return answer({"devices": [answers.device_body(each, encoding) for each in devices]})

    @app.delete("/v1/devices/<uuid:device>")
    async def revoke(device: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            await accounts.revoke_device(pool, user, device.bytes)
        return Response(b"", 204)

    @app.post("/v1/tokens")
    async def refresh() -> ResponseReturnValue:
        device, token = (await identify(pool)).device, token_shown()
        with trio.CancelScope(shield=True):
            new, expires, _ = await accounts.refresh_token(pool, device, token, lifetime_s=token_lifetime_s)
        return answer({"token": new, "expires": expires}, 201)
