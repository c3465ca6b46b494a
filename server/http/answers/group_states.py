"""The state of a conversation's cryptography."""

from __future__ import annotations

from msgspec import Struct

from server.http.encoding import IDENT, Encoding, Ident
from store.group_states import GroupState


class GroupStateAnswer(Struct, frozen=True):
    """The last control message of a conversation, and the state after it.

    A `send` that builds on the state gives `control_seq` as its `follows`.

    :ivar control_seq: 0: there was no control message.
    :ivar state: null: no device has put it yet.
    :ivar device: that put it.
    :ivar put: when.
    """

    control_seq: int
    state: bytes | None
    device: Ident | None
    put: int | None


def state_body(state: GroupState, encoding: Encoding) -> GroupStateAnswer:
    held = state.held
    if held is None:
        return GroupStateAnswer(state.control_seq, None, None, None)
    return GroupStateAnswer(state.control_seq, held.body, IDENT[encoding](held.device), held.put)
