"""A client's state beside the data of the double."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.conformance.settled import complaint_of, describe, read_state
from protocol.conformance.talk import ME, Talk
from protocol.conformance.values import id_of
from tests.rows import each_row

BOB = id_of("bob")


def group() -> Talk:
    """A group of which a client was told at its second message: it holds messages 2 to 5, of which 3 is deleted."""
    talk = Talk("talk", "group", [BOB])
    talk.name = "Group"
    for content in (b"one", b"two"):
        talk.write(BOB, content)
    talk.tell_anew()
    talk.write(BOB, b"three")
    talk.write(BOB, b"key", is_quiet=True)
    talk.write(BOB, b"five")
    talk.delete(3)
    talk.read(2)
    return talk


def right() -> dict[str, Any]:
    contents = [(2, b"two".hex()), (3, None), (4, b"key".hex()), (5, b"five".hex())]
    told = {
        "kind": "group",
        "name": "Group",
        "first_seq": 1,
        "last_seq": 5,
        "unread_count": 1,
        "devices_version": 0,
        "participants": sorted([BOB.hex(), ME.hex()]),
        "messages": [{"seq": seq, "content": content} for seq, content in contents],
    }
    return {"conversations": {id_of("talk").hex(): told}, "ended": None}


Change = Callable[[dict[str, Any]], object]
FINE: dict[str, Change] = {
    "all fields": lambda told: told,
    "messages alone": lambda told: [told.pop(name) for name in list(told) if name != "messages"],
    "an earlier message, too": lambda told: told["messages"].insert(0, {"seq": 1, "content": b"one".hex()}),
}
WRONG: dict[str, tuple[str, Change]] = {
    "a message is missing": ("the messages are", lambda told: told["messages"].pop(1)),
    "the first one is missing": ("the messages are", lambda told: told["messages"].pop(0)),
    "the last one is missing": ("the messages are", lambda told: told["messages"].pop()),
    "no message is there": ("the messages are", lambda told: told["messages"].clear()),
    "a message comes twice": ("the messages are", lambda told: told["messages"].append(told["messages"][-1])),
    "the order is another": ("the messages are", lambda told: told["messages"].reverse()),
    "a content is another": ("the messages are", lambda told: told["messages"][0].update(content="00")),
    "a deleted one has content": ("the messages are", lambda told: told["messages"][1].update(content="00")),
    "the count": ("`unread_count` is 2, not 1", lambda told: told.update(unread_count=2)),
    "the name": ("`name` is Other, not Group", lambda told: told.update(name="Other")),
    "the participants": ("`participants` is", lambda told: told["participants"].pop()),
    "the devices": ("`devices_version` is 1, not 0", lambda told: told.update(devices_version=1)),
    "the floor": ("`first_seq` is 2, not 1", lambda told: told.update(first_seq=2)),
}


@pytest.mark.parametrize("change", FINE)
def test_a_client_that_shows_what_a_fresh_fetch_would_is_right(change: str) -> None:
    state = right()
    FINE[change](state["conversations"][id_of("talk").hex()])
    assert complaint_of(state, [group()]) is None


@each_row("change", WRONG)
def test_anything_else_is_named(change: str) -> None:
    state = right()
    reason, act = WRONG[change]
    act(state["conversations"][id_of("talk").hex()])
    complaint = complaint_of(state, [group()])
    assert complaint is not None
    assert complaint.startswith(f"in the conversation @talk {reason}")


def test_a_conversation_too_many_or_too_few_is_named() -> None:
    gone = group()
    gone.leave()
    assert complaint_of(right(), [gone]) == "the client shows a conversation that is not the user's: @talk"
    assert complaint_of({"conversations": {}}, [group()]) == "the client does not show the conversation @talk"
    assert complaint_of({"conversations": {}}, [gone]) is None


def test_a_message_below_the_floor_is_one_too_many() -> None:
    talk = group()
    talk.raise_floor(3)
    complaint = complaint_of(right(), [talk])
    assert complaint is not None
    assert "the messages are [[2, text:two], " in complaint


def test_a_state_is_read_and_described_for_people() -> None:
    assert read_state(right())["conversations"][id_of("talk").hex()]["messages"][:2] == [[2, b"two"], [3, None]]
    assert "Group (1 unread): 2. two; 3. (deleted); 4. key; 5. five" in describe([group()])
