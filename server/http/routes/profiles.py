"""The profile of the user who asks."""

from __future__ import annotations

from protocol.frames import Profile
from server.http import bodies
from server.http.announcements import Announcements
from server.http.answers.people import ProfileAnswer, profile_body
from server.http.problem_codes import ProblemCode
from server.http.routing import Announcement, Answer, Changed, Request, Routes
from store import profiles
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/profile", answer=ProfileAnswer)
async def get_profile(identity: Identity, request: Request[None]) -> Answer:
    """Get your profile and settings."""
    settings = await profiles.profile_of(request.services.pool, identity.user)
    return Answer(profile_body(identity.user, settings, request.encoding))


@routes.write(
    "PATCH /v1/profile",
    body=bodies.PatchProfile,
    announces=[
        Announcements.profile_changed,
        Announcements.presence_rules_changed,
        Announcements.own_settings_changed,
    ],
    answer=ProfileAnswer,
    problems=[ProblemCode.UNKNOWN_ATTACHMENT, ProblemCode.ATTACHMENT_INCOMPLETE, ProblemCode.ATTACHMENT_USED],
)
async def patch_profile(identity: Identity, request: Request[bodies.PatchProfile]) -> Changed:
    """Change your profile and settings.

    Fields that the body leaves out stay as they are.
    """
    user, body = identity.user, request.body
    changed = await profiles.change(
        request.services.pool,
        user,
        display_name=body.display_name,
        avatar=None if body.avatar is None else body.avatar.bytes,
        gives_receipts=body.gives_receipts,
        shows_presence=body.shows_presence,
        messages_from=body.messages_from,
        groups_from=body.groups_from,
    )
    now, announcements = changed.settings, []
    if changed.is_profile_changed:
        profile = Profile(user, now.revision, now.username, now.display_name, now.avatar)
        announcements.append(Announcement(Announcements.profile_changed, profile))
    if changed.is_shown_otherwise:
        announcements.append(Announcement(Announcements.presence_rules_changed, [user]))
    given = (body.gives_receipts, body.shows_presence, body.messages_from, body.groups_from)
    if any(each is not None for each in given):
        announcements.append(Announcement(Announcements.own_settings_changed, user))
    return Changed(announcements, Answer(profile_body(user, now, request.encoding)))
