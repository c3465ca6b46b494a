"""Devices that come back to a real gateway with a cursor, and the figures of these runs."""

from typing import Any

import pytest

from bench.catchup import CatchupSettings, Return, figures, measure_catchup, messages_of, queries_in, requirements
from bench.ours import Ours
from protocol.frames import Key, Type
from store.sync import MAX_MESSAGES


@pytest.mark.long
def test_exactly_what_was_missed_comes_back(ours: Ours) -> None:
    settings = CatchupSettings(((0, 1), (6, 3), (MAX_MESSAGES + 1, 1)), repeats=2, content_bytes=20)
    nothing, some, much = measure_catchup(ours, settings)
    assert [line["valid"] for line in (nothing, some, much)] == [True] * 3
    # After several pages, one more request asks for messages that were written meanwhile.
    assert [line["sync_requests"] for line in (nothing, some, much)] == [1, 1, 3]
    assert 0 < nothing["sync_queries"] < much["sync_queries"]
    assert nothing["sync_bytes"] + 6 * 20 < some["sync_bytes"]
    assert some["sync_bytes"] + MAX_MESSAGES * 20 < much["sync_bytes"]
    assert 0 < much["hello_p50_ms"] < much["complete_p50_ms"] <= much["complete_p99_ms"]
    assert much["server_ms"] > 0


def test_messages_are_told_by_conversation_in_the_order_in_which_they_came() -> None:
    def message(conversation: bytes, seq: int) -> dict[int, Any]:
        return {Key.TYPE: Type.MESSAGE, Key.CONVERSATION: conversation, Key.SEQ: seq, Key.MESSAGE: b"%d" % seq}

    unknown = {Key.TYPE: 159}
    pushes = [message(b"a", 2), unknown, message(b"b", 1), message(b"a", 1)]
    assert messages_of(pushes) == {b"a": [(2, b"2"), (1, b"1")], b"b": [(1, b"1")]}


def test_one_return_that_was_wrong_makes_the_case_invalid() -> None:
    right, wrong = (Return(0.001, 0.002, 1, 50, is_right) for is_right in (True, False))
    cpu = {"server": 0.004, "postgres": 0.002, "generator": 0.002, "others": 0.0}
    line = figures([right, right], cpu)
    assert (line["valid"], line["complete_p50_ms"], line["server_ms"]) == (True, 3.0, 2.0)
    assert figures([right, wrong], cpu)["valid"] is False


def test_a_statement_of_several_lines_is_one_query() -> None:
    log = b"""2026-01-01 [7] LOG:  execute _1: with mine as (
\tselect 1) select 2;
2026-01-01 [7] DETAIL:  Parameters: $1 = '1'
2026-01-01 [7] LOG:  statement: select 1
2026-01-01 [7] LOG:  checkpoint starting: time
"""
    assert queries_in(log) == 2


@pytest.mark.parametrize(("requests", "valid", "holds"), [(2, True, True), (3, True, False), (1, False, False)])
def test_a_hundred_changed_conversations_come_in_two_round_trips(requests: int, valid: bool, holds: bool) -> None:
    lines = [
        {"messages": messages, "conversations": conversations, "valid": valid, "sync_requests": requests}
        for messages, conversations in ((1, 1), (100, 100), (10_000, 100))
    ]
    [requirement] = requirements(lines)
    assert (requirement["round_trips"], requirement["round_trips_at_most_2"]) == (requests, holds)
