"""Routes: a user's profile."""

from __future__ import annotations

import trio
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from protocol.frames import Profile
from server.http import answers, bodies
from server.http.announcements import Announcements
from server.http.frame import (
    answer,
    body_of,
    encoding_asked,
    identify,
)
from store import profiles
from store.postgres.pool import Pool


def add_profiles(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.get("/v1/profile")
    async def get_profile() -> ResponseReturnValue:
        user = (await identify(pool)).user
        return answer(answers.profile_body(user, await profiles.profile_of(pool, user), encoding_asked()))

    @app.patch("/v1/profile")
    async def patch_profile() -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.PatchProfile)
        with trio.CancelScope(shield=True):
            changed = await profiles.change(
                pool,
                user,
                display_name=body.display_name,
                gives_receipts=body.gives_receipts,
                shows_presence=body.shows_presence,
                messages_from=body.messages_from,
                groups_from=body.groups_from,
            )
            now = changed.settings
            if changed.is_renamed:
                await announcements.profile_changed(Profile(user, now.revision, now.username, now.display_name))
            if changed.is_shown_otherwise:
                announcements.presence_shown_otherwise([user])
            given = (body.gives_receipts, body.shows_presence, body.messages_from, body.groups_from)
            if any(each is not None for each in given):
                await announcements.own_settings_changed(user)
        return answer(answers.profile_body(user, now, encoding_asked()))
