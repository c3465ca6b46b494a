"""A user's quiet hours."""

from __future__ import annotations

from server.http import bodies
from server.http.announcements import Announcements
from server.http.answers.settings import QuietHoursAnswer, quiet_hours_body
from server.http.routing import Announcement, Answer, Changed, Request, Routes
from store import quiet_hours
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/quiet-hours", answer=QuietHoursAnswer)
async def get_quiet_hours(identity: Identity, request: Request[None]) -> Answer:
    """Get your quiet hours."""
    found = await quiet_hours.quiet_hours_of(request.services.pool, identity.user)
    return Answer(quiet_hours_body(found))


@routes.write("PUT /v1/quiet-hours", body=bodies.PutQuietHours, announces=[Announcements.own_settings_changed])
async def put_quiet_hours(identity: Identity, request: Request[bodies.PutQuietHours]) -> Changed:
    """Set your quiet hours.

    Notices wait for their end.
    """
    quiet = bodies.quiet_hours_of(request.body)
    await quiet_hours.set_quiet_hours(request.services.pool, identity.user, quiet)
    return Changed([Announcement(Announcements.own_settings_changed, identity.user)])


@routes.write("DELETE /v1/quiet-hours", announces=[Announcements.own_settings_changed])
async def delete_quiet_hours(identity: Identity, request: Request[None]) -> Changed:
    """End your quiet hours."""
    await quiet_hours.set_quiet_hours(request.services.pool, identity.user, None)
    return Changed([Announcement(Announcements.own_settings_changed, identity.user)])
