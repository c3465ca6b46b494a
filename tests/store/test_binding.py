"""Sends take attachments: each file one message, and a message all its files or none."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from store import contacts
from store.errors import (
    AttachmentUsed,
    NotAParticipant,
    Refused,
    StoreError,
    TempIdConflict,
    UnknownMessage,
)
from store.messages import Committed
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone
from tests.people import new_direct, new_group
from tests.store.binding_world import ALONE_OR_NOT, EACH_REFUSAL, REFUSALS, Desk, Files, open_desk, send_among
from tests.store.store_world import a_message


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    return await open_desk(pool)


@ALONE_OR_NOT
async def test_a_message_takes_its_attachments_in_the_sender_s_order_with_their_thumbnails(
    desk: Desk, has_neighbours: bool
) -> None:
    files = sorted([await desk.file(), await desk.file(thumbnail="complete"), await desk.file()], reverse=True)
    unused = await desk.file()
    outcome, _ = await send_among(desk, desk.message(*files), has_neighbours)
    assert isinstance(outcome, Committed)
    assert await desk.on_message(outcome.seq) == files
    owners = await desk.owners()
    [small] = [each for each in owners if each not in (*files, unused) and owners[each][1] == outcome.seq]
    assert {owners[each] for each in (*files, small)} == {(desk.talk, outcome.seq, False)}
    assert owners[unused] == (None, None, False)


@ALONE_OR_NOT
@EACH_REFUSAL
async def test_a_send_that_cannot_have_a_file_is_refused_alone_and_takes_nothing(
    desk: Desk, files: Files, error: type[StoreError], has_neighbours: bool
) -> None:
    """Also the file beside it that the message could have. The sends around it go on, without a gap between them."""
    first = await desk.sent()
    bad = await files(desk)
    good = await desk.file(thumbnail="complete")
    before = await desk.owners()
    [(last,)] = await desk.pool.fetch("select last_seq from conversations where id = %s", (uuid(desk.talk),))
    outcome, others = await send_among(desk, desk.message(good, *bad), has_neighbours)
    assert type(outcome) is error
    seqs = [other.seq for other in others if isinstance(other, Committed)]
    assert len(seqs) == len(others)
    assert seqs[:2] == ([last + 1, last + 2] if has_neighbours else [])
    after = await desk.owners()
    assert {each: after[each] for each in before} == before
    assert await desk.sent(good) > first, "the good file is free"


async def test_the_first_file_that_a_message_cannot_have_names_the_refusal(desk: Desk) -> None:
    rows = [(await files(desk), error) for files, error in REFUSALS]
    for one, error in rows:
        for other, _ in rows:
            [outcome] = await desk.send(desk.message(*one, *other))
            assert type(outcome) is error


@pytest.mark.parametrize("is_stranger", [False, True])
async def test_the_first_committed_send_of_a_batch_has_the_file_that_two_of_them_name(
    desk: Desk, is_stranger: bool
) -> None:
    file = await desk.file(thumbnail="complete")
    first = desk.message(file)
    if is_stranger:
        carols = await new_group(desk.pool, desk.people["carol"])
        first = replace(first, conversation=carols)
    one, other, last = await desk.send(first, desk.message(file), desk.message())
    owner = (desk.talk, 1, False)
    assert isinstance(last, Committed)
    if is_stranger:
        assert isinstance(one, NotAParticipant)
        assert isinstance(other, Committed)
        assert (other.seq, last.seq) == (1, 2)
    else:
        assert isinstance(one, Committed)
        assert isinstance(other, AttachmentUsed)
        assert (one.seq, last.seq) == (1, 2)
    assert set((await desk.owners()).values()) == {owner}


async def test_a_batch_has_the_outcomes_of_its_sends_one_by_one(desk: Desk) -> None:
    """Batches of good and bad sends over few files, so that many name the same one: sent at once in one pair of
    groups, and one by one in another pair, with files of their own."""
    chance = random.Random(5)
    carol = desk.people["carol"]
    pair = desk.people["alice"], desk.people["bob"]
    for _ in range(25):
        kinds = [chance.choice(["complete", "complete", "incomplete", "small", "bob's"]) for _ in range(4)]
        sends = [
            (
                chance.randrange(3),
                chance.sample(range(4), chance.randint(0, 2)),
                chance.choice([None, None, None, 1, 9]),
            )
            for _ in range(chance.randint(2, 6))
        ]
        outcomes, bound = [], []
        for at_once in (True, False):
            groups = [await new_group(desk.pool, *pair), await new_group(desk.pool, *pair)]
            groups.append(await new_group(desk.pool, carol))
            files = [await _file_of(desk, kind) for kind in kinds]
            batch = [
                a_message(groups[group], desk.alice, attachments=[files[n] for n in chosen] or None, reply_to=reply)
                for group, chosen, reply in sends
            ]
            answers = await desk.send(*batch) if at_once else [(await desk.send(each))[0] for each in batch]
            outcomes.append([each.seq if isinstance(each, Committed) else type(each) for each in answers])
            owners = await desk.owners()
            bound.append(
                [(owners[file][0] and groups.index(owners[file][0] or b""), owners[file][1]) for file in files]
            )
        assert outcomes[0] == outcomes[1]
        assert bound[0] == bound[1]


async def _file_of(desk: Desk, kind: str) -> bytes:
    return await desk.file(
        is_complete=kind != "incomplete",
        thumbnail="complete" if kind == "small" else "none",
        owner="bob" if kind == "bob's" else "alice",
    )


@ALONE_OR_NOT
async def test_a_repeated_send_is_answered_as_before_whatever_has_become_of_its_attachments(
    desk: Desk, has_neighbours: bool
) -> None:
    message = desk.message(await desk.file(), thumbnail=b"small")
    [first] = await desk.send(message)
    assert isinstance(first, Committed)
    again, _ = await send_among(desk, message, has_neighbours)
    assert isinstance(again, Committed)
    assert (again.is_new, again.seq) == (False, first.seq)
    await delete_for_everyone(desk.pool, desk.alice, desk.talk, first.seq)
    again, _ = await send_among(desk, message, has_neighbours)
    assert isinstance(again, Committed)
    assert (again.is_new, again.seq) == (False, first.seq)
    other = await desk.file()
    for changed in (
        replace(message, attachments=None),
        replace(message, attachments=[other]),
        replace(message, attachments=[*(message.attachments or []), other]),
        replace(message, thumbnail=None),
        replace(message, thumbnail=b"other"),
    ):
        outcome, _ = await send_among(desk, changed, has_neighbours)
        assert isinstance(outcome, TempIdConflict)
    assert (await desk.owners())[other] == (None, None, False)


def test_no_two_messages_have_one_digest() -> None:
    message = a_message(b"c" * 16, b"s" * 16)
    ids = [b"a" * 16, b"b" * 16]
    variants = [
        *({}, {"attachments": ids}, {"attachments": ids[::-1]}, {"attachments": ids[:1]}, {"thumbnail": ids[0]}),
        *({"thumbnail": b"a" + ids[0]}, {"attachments": ids[:1], "thumbnail": ids[1]}, {"reply_to": 1}),
        *({"reply_to": 1, "attachments": ids}, {"reply_to": 1, "thumbnail": b"".join(ids)}),
    ]
    assert len({replace(message, **changes).digest() for changes in variants}) == len(variants)


@ALONE_OR_NOT
async def test_the_message_of_a_blocked_sender_takes_its_attachments(desk: Desk, has_neighbours: bool) -> None:
    """The blocked user learns nothing of the block."""
    bob = desk.people["bob"]
    direct = await new_direct(desk.pool, desk.people["alice"], bob)
    await contacts.set_blocked(desk.pool, bob.user, desk.alice, is_blocked=True)
    file = await desk.file()
    outcome, _ = await send_among(desk, desk.message(file, conversation=direct), has_neighbours)
    assert isinstance(outcome, Committed)
    assert outcome.participants == (desk.alice,)
    assert (await desk.owners())[file] == (direct, outcome.seq, False)


async def test_a_stranger_learns_nothing_of_files(desk: Desk) -> None:
    """The refusal is that of a conversation that is not the user's, whatever the files are."""
    carols = await new_group(desk.pool, desk.people["carol"])
    for files, _ in REFUSALS:
        [alone] = await desk.send(desk.message(*await files(desk), conversation=carols))
        [one, other] = await desk.send(desk.message(*await files(desk), conversation=carols), desk.message())
        assert isinstance(alone, NotAParticipant)
        assert isinstance(one, NotAParticipant)
        assert isinstance(other, Committed)


@ALONE_OR_NOT
async def test_a_reply_to_nothing_leaves_its_files_free(desk: Desk, has_neighbours: bool) -> None:
    file = await desk.file()
    outcome, _ = await send_among(desk, replace(desk.message(file), reply_to=99), has_neighbours)
    assert isinstance(outcome, UnknownMessage)
    assert isinstance(outcome, Refused)
    assert (await desk.owners())[file] == (None, None, False)
