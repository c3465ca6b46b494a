"""The state of a conversation's cryptography, for devices that join by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from server.http import bodies
from server.http.answers.group_states import GroupStateAnswer, state_body
from server.http.conditional import ReadHistory, held_tag, tag_headers
from server.http.exchange import NO_COMPRESSION
from server.http.problem_codes import ProblemCode
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from store import group_states
from store.group_states import GroupState
from store.tokens import Identity

routes = Routes()

_PLAIN: Final[Mapping[str, str]] = {NO_COMPRESSION: "1"}
"""Keys and ciphertext do not compress, and to try with 1 MiB takes long."""


@routes.read(
    "GET /v1/conversations/<uuid:conversation>/state",
    answer=GroupStateAnswer,
    statuses=[200, 304],
    problems=[ProblemCode.NOT_FOUND],
)
async def get_group_state(identity: Identity, request: Request[None], conversation: UUID) -> Answer:
    """Get the state of a conversation's cryptography after its last control message.

    With it a device can join by itself, as by an external commit of MLS. While no device has put the state after the
    last control message, there is none: try again later.
    """
    services, user, of = request.services, identity.user, conversation.bytes
    history = await services.tags.history()
    held = request.headers.get("if-none-match", "")
    if held:
        known = await group_states.state(services.pool, user, of, has_body=False)
        if (current := held_tag(held, _tag(request, history, of, known))) is not None:
            return Answer(None, 304, tag_headers(current))
    found = await group_states.state(services.pool, user, of)
    return Answer(
        state_body(found, request.encoding), headers={**tag_headers(_tag(request, history, of, found)), **_PLAIN}
    )


def _tag(request: Request[None], history: ReadHistory, conversation: bytes, state: GroupState) -> str | None:
    """The tag of a state; None if there is none, since it may be put at any time."""
    if state.held is None:
        return None
    return request.services.tags.of(
        history, "state", request.encoding, conversation, state.control_seq, state.held.revision
    )


@routes.write(
    "PUT /v1/conversations/<uuid:conversation>/state",
    body=bodies.PutGroupState,
    announces=NOTHING,
    problems=[ProblemCode.NOT_FOUND, ProblemCode.CONTROL_CONFLICT],
    request_class=RequestClass.STATE,
    takes_large=True,
)
async def put_group_state(identity: Identity, request: Request[bodies.PutGroupState], conversation: UUID) -> Answer:
    """Put the state of a conversation's cryptography after its last control message.

    The device whose control message was accepted puts it; any device of a participant may. A state for an earlier
    control message is refused. The newest one stays, and repeating it changes nothing.
    """
    body = request.body
    await group_states.put(
        request.services.pool, identity.user, identity.device, conversation.bytes, body.control_seq, body.state
    )
    return NO_CONTENT
