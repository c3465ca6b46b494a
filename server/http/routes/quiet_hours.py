"""Routes: a user's quiet hours."""

from __future__ import annotations

import trio
from quart import Response
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import notifiers
from server.http.announcements import Announcements
from server.http.frame import (
    answer,
    body_of,
    identify,
)
from store import quiet_hours
from store.postgres.pool import Pool


def add_quiet_hours(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.get("/v1/quiet-hours")
    async def get_quiet_hours() -> ResponseReturnValue:
        user = (await identify(pool)).user
        return answer(notifiers.quiet_hours_body(await quiet_hours.quiet_hours_of(pool, user)))

    @app.put("/v1/quiet-hours")
    async def put_quiet_hours() -> ResponseReturnValue:
        user = (await identify(pool)).user
        quiet = notifiers.quiet_hours_of(await body_of(notifiers.PutQuietHours))
        with trio.CancelScope(shield=True):
            await quiet_hours.set_quiet_hours(pool, user, quiet)
            await announcements.own_settings_changed(user)
        return Response(b"", 204)

    @app.delete("/v1/quiet-hours")
    async def delete_quiet_hours() -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            await quiet_hours.set_quiet_hours(pool, user, None)
            await announcements.own_settings_changed(user)
        return Response(b"", 204)
