"""Answers show the fields of the frames that say the same over the socket."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec import Struct

from protocol.frames import Conversation, ListedDevice, Message, Participant, Tombstone
from server.http.answers.conversations import ConversationAnswer, ParticipantAnswer
from server.http.answers.keys import ListedDeviceAnswer
from server.http.answers.messages import MessageAnswer

LEFT_OUT: Final[dict[type[Struct], tuple[type[Struct], dict[str, str]]]] = {
    Conversation: (
        ConversationAnswer,
        {
            "active_at": "the order of the list and the time of `last_message` say it",
            "own_revision": "it says which of several pushes counts",
            "uncounted_seqs": "for clients that count unread messages themselves",
            "quiet_counts": "for clients that count unread messages themselves",
            "former": "for clients that work out statuses; `GET .../messages/{seq}/status` tells them",
        },
    ),
    Participant: (ParticipantAnswer, {}),
    Message: (
        MessageAnswer,
        {
            "temp_id": "for the sender's devices that wait for an ack",
            "quiet_count": "for clients that count unread messages themselves",
        },
    ),
    Tombstone: (MessageAnswer, {"quiet_count": "as of a message"}),
    ListedDevice: (ListedDeviceAnswer, {}),
}
"""Frame -> its answer, and the fields that only the frame has, each with the reason."""


@pytest.mark.parametrize("frame", LEFT_OUT)
def test_an_answer_has_each_field_of_its_frame_or_a_reason_to_leave_it_out(frame: type[Struct]) -> None:
    answer, left_out = LEFT_OUT[frame]
    assert {*frame.__struct_fields__} - {*answer.__struct_fields__} == left_out.keys()
