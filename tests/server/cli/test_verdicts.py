"""Verdicts on deliveries: each state from the facts that make it, and no other."""

from __future__ import annotations

from typing import Any

import msgspec

from server.cli import verdicts
from server.cli.nodes import FoundNode
from server.cli.verdicts import HeldConnection, RecipientFacts
from store.inspected_messages import InspectedConversation, InspectedMessage, InspectedRecipient
from store.inspected_users import InspectedDevice
from store.redis.questions import ConnectionState, NodeLease, NodeState
from tests.rows import each_row

NOW = 1_000_000_000
SENT = NOW - 60_000_000
USER, DEVICE, OTHER, NODE = b"u" * 16, b"d" * 16, b"o" * 16, b"n" * 8

CONVERSATION = InspectedConversation("group", 9, 0, False, 3, NOW)
MESSAGE = InspectedMessage(b"m" * 16, b"s" * 16, "alice", SENT, False, False, None, None, None)
RECIPIENT = InspectedRecipient(USER, "bob", "participant", 0, None, 4, None, 4, None, None, False, False, False, None)
PHONE = InspectedDevice(USER, DEVICE, "Phone", "phone", 0, SENT - 3_600_000_000, NOW * 2, None, "good")
CONNECTED = ConnectionState(USER, DEVICE, "phone", 120.0, 1.0, 0, False, 0)
STATE = NodeState(NODE, "host", 1, 1, 1.0, 1, 1, {}, 0, 0, 0, 0, 0, 0, "", [], [])
LIVES = FoundNode(NodeLease(NODE, 4.0, 1, 0), STATE)
HANGS = FoundNode(NodeLease(NODE, 4.0, 1, 0), None)


def facts(
    *,
    connection: ConnectionState | None = CONNECTED,
    nodes: list[FoundNode] | None = [LIVES],  # noqa: B006
    devices: list[InspectedDevice] | None = None,
    **recipient: Any,
) -> RecipientFacts:
    held = [] if connection is None else [HeldConnection(NODE.hex(), connection)]
    found = [PHONE] if devices is None else devices
    return RecipientFacts(msgspec.structs.replace(RECIPIENT, **recipient), found, nodes, held, NOW)


def changed(device: InspectedDevice = PHONE, **fields: Any) -> InspectedDevice:
    return msgspec.structs.replace(device, **fields)


def connected(**fields: Any) -> ConnectionState:
    return msgspec.structs.replace(CONNECTED, **fields)


DELIVERIES: dict[str, tuple[RecipientFacts, dict[str, Any]]] = {
    "withheld": (facts(part="withheld"), {}),
    "joined_later": (facts(after_seq=5), {}),
    "left_before": (facts(part="left", left_seq=4), {}),
    "left": (facts(part="left", left_seq=7), {}),
    "blocked": (facts(), {"is_silent": True}),
    "read": (facts(read=5, delivered=5), {}),
    "delivered": (facts(delivered=7), {}),
    "account_deleted": (facts(is_deleted=True), {}),
    "suspended": (facts(is_suspended=True), {}),
    "account_closed": (facts(is_closed=True), {}),
    "no_device": (facts(devices=[changed(state="revoked")]), {}),
    "deleted": (facts(), {"deleted": NOW}),
    "unknown": (facts(nodes=None, connection=None), {}),
    "node_hangs": (facts(nodes=[HANGS], connection=None), {}),
    "away": (facts(nodes=[], connection=None), {}),
    "slow_reader": (facts(connection=connected(is_lagging=True)), {}),
    "request": (facts(asked_seq=4), {}),
    "not_marked": (facts(), {}),
}
"""State -> the facts of message 5 that lead to it, and fields of the message."""


@each_row("state", DELIVERIES)
def test_each_state_of_a_delivery_follows_from_its_facts(state: str) -> None:
    given, message = DELIVERIES[state]
    found = verdicts.delivery(CONVERSATION, msgspec.structs.replace(MESSAGE, **message), 5, given)
    assert found.state == state
    assert found.why


def test_an_expired_message_is_gone_for_everyone() -> None:
    conversation = msgspec.structs.replace(CONVERSATION, floor_seq=5)
    assert verdicts.delivery(conversation, MESSAGE, 5, facts()).state == "expired"


def test_the_causes_that_lie_furthest_from_the_device_come_first() -> None:
    """A user whom the conversation does not concern, and who is suspended and logged out, is withheld."""
    given = facts(part="withheld", is_suspended=True, devices=[], nodes=None, connection=None)
    assert verdicts.delivery(CONVERSATION, MESSAGE, 5, given).state == "withheld"
    given = facts(is_suspended=True, devices=[], nodes=None, connection=None)
    assert verdicts.delivery(CONVERSATION, MESSAGE, 5, given).state == "suspended"


def test_a_user_who_is_away_is_told_from_one_who_has_been_there_since() -> None:
    away = facts(nodes=[], connection=None)
    assert "none has been since the message" in verdicts.delivery(CONVERSATION, MESSAGE, 5, away).why
    since = facts(nodes=[], connection=None, devices=[changed(last_used=SENT + 1)])
    assert "and has not marked it" in verdicts.delivery(CONVERSATION, MESSAGE, 5, since).why


DEVICES: dict[str, RecipientFacts] = {
    "ended": facts(devices=[changed(state="token reused")]),
    "marked": facts(delivered=5, delivered_by=DEVICE),
    "unknown": facts(nodes=None, connection=None),
    "away": facts(nodes=[], connection=None),
    "slow_reader": facts(connection=connected(is_lagging=True, waiting_bytes=9)),
    "silent": facts(connection=connected(silent_s=50.0)),
    "pushed": facts(),
    "synced": facts(connection=connected(connected_s=30.0)),
}


@each_row("state", DEVICES)
def test_each_state_of_a_device_follows_from_its_facts(state: str) -> None:
    given = DEVICES[state]
    assert verdicts.device(MESSAGE, 5, given.recipient, given.devices[0], given).state == state


def test_a_mark_that_another_device_moved_says_nothing_of_this_one() -> None:
    given = facts(delivered=5, delivered_by=OTHER, nodes=[], connection=None)
    assert verdicts.device(MESSAGE, 5, given.recipient, PHONE, given).state == "away"
