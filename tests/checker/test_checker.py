"""The checker on three gateways, with all its faults; and its findings in doctored histories."""

from __future__ import annotations

import re
from typing import Final

import pytest
from msgspec.structs import replace

from client.mailbox import Mailbox
from protocol.frames import Conversation
from store.postgres.pool import Pool
from tests.checker.__main__ import report
from tests.checker.checks import verify
from tests.checker.doctored import DOCTORINGS, GROUP, small_plan
from tests.checker.history import ConversationView, Stored
from tests.checker.plan import make_plan
from tests.checker.run import run
from tests.checker.views import view_of
from tests.protocol.strategies import bare, full
from tests.rows import each_row

SECONDS = 12.0


async def check(pool: Pool, redis_url: str, seed: int, seconds: float, record: pytest.FixtureRequest) -> None:
    """One run of a seed. pytest prints its counts at the end of the tests."""
    record.node.user_properties.append(("checker", f"seed {seed}"))
    outcome = await run(pool, redis_url, make_plan(seed, seconds))
    text = report(seed, seconds, outcome)
    record.node.user_properties[-1] = ("checker", text)
    assert not outcome.findings, text
    for count in ("accepted for a device set", "refused for another device set", "envelopes held"):
        assert outcome.counts[count], text


@pytest.mark.parametrize("seed", [pytest.param(2, marks=pytest.mark.long), 7])
async def test_any_interleaving_leaves_every_device_with_what_a_fresh_fetch_shows(
    pool: Pool, redis_url: str, seed: int, request: pytest.FixtureRequest
) -> None:
    """`python -m tests.checker` runs other seeds for longer."""
    await check(pool, redis_url, seed, SECONDS, request)


UNSEEN: Final = {
    "participants_version": "which frame counts, and nothing that a screen shows",
    "own_revision": "which frame counts, and nothing that a screen shows",
    "unread_count": "the mailbox counts the unread messages itself",
    "former": "the statuses of messages follow from it",
}
"""Fields of a `conversation` frame whose change alone changes no view, and why."""


@each_row("name", [*Conversation.__struct_fields__[1:]])
def test_a_view_shows_each_field_of_a_conversation(name: str) -> None:
    """A field that no view shows is compared by no test of devices: it may never come, or never change."""
    frame = replace(bare(Conversation), participants=[])
    changed = replace(full(Conversation), kind="other", created=1, active_at=1, first_seq=1, last_seq=1, name="Other")
    views = [view(frame), view(replace(frame, **{name: getattr(changed, name)}))]
    assert (views[0] == views[1]) == (name in UNSEEN)


def view(frame: Conversation) -> ConversationView:
    mailbox = Mailbox(b"m" * 16)
    mailbox.learn(frame)
    [shown] = view_of(mailbox, bytes.hex)
    return shown


def test_a_seed_makes_the_same_steps_each_time() -> None:
    plan = make_plan(7, 20)
    assert plan == make_plan(7, 20)
    assert plan != make_plan(8, 20)
    assert plan[:50] == make_plan(7, 60)[:50]


async def test_each_fault_of_a_history_is_reported_by_name(pool: Pool, redis_url: str) -> None:
    """A run without faults has no finding; then each doctoring of its history has the finding that it should have."""
    outcome = await run(pool, redis_url, small_plan())
    assert outcome.findings == []
    unreported = {}
    for name, (doctor, expected) in DOCTORINGS.items():
        found = {finding.check for finding in verify(doctor(outcome.history))}
        if not found & {*expected.split("|")}:
            unreported[name] = found
    assert unreported == {}
    doctor, _ = DOCTORINGS["a device misses the last message"]
    [found] = [finding.what for finding in verify(doctor(outcome.history)) if finding.check == "differs"]
    seq, message = max((each.seq, each.message) for each in outcome.history.of(Stored) if each.conversation == GROUP)
    assert re.match(rf"user1\.\d at node\d, resumed: {GROUP}: message {seq} \({message}\) is missing, not ", found)
