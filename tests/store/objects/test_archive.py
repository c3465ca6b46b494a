"""Everything in an archive can be read back, and damage is noticed."""

from __future__ import annotations

import gzip
import json
import os
import sys
from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import cbor2
import pytest
import trio

from client.http import Credentials
from protocol.codec import encode
from protocol.frames import Message, Tombstone
from runtime import process
from runtime.config import Config
from store import messages as stored
from store import revisions
from store.__main__ import main
from store.cli.archive import print_archive
from store.errors import BadArchive, ObjectMissing, Unavailable
from store.objects import archive as archive_module
from store.objects.archive import key_of, list_archives, read_archive, read_conversation, write_archive
from store.objects.folder import Folder
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.store.store_world import a_message

CONVERSATION = bytes(range(16))
FOLDER = f"archive/{UUID(bytes=CONVERSATION)}"
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def objects(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


def message(seq: int, content: bytes = b"ciphertext", **changes: Any) -> Message:
    values: dict[str, Any] = {
        "message": seq.to_bytes(16, "big"),
        "created": 1_700_000_000_000_000 + seq,
        "sender": b"s" * 16,
        "content_type": "text",
        "nonce": b"n" * 24,
        "ephemeral_public_key": None,
        **changes,
    }
    return Message(conversation=CONVERSATION, seq=seq, content=content, **values)


def tombstone(seq: int) -> Tombstone:
    return Tombstone(CONVERSATION, seq, seq.to_bytes(16, "big"), 1_700_000_000_000_000 + seq, b"s" * 16)


MESSAGES = [
    message(7),
    message(8, bytes(range(256)), nonce=None, ephemeral_public_key=b"k" * 32, content_type="image/ä"),
    tombstone(9),
    message(10, b"", revision=3, edited=1_700_000_000_000_999, reply_to=7),
]


async def test_archives_return_what_history_showed_after_it_is_gone_from_postgres(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes, objects: Folder
) -> None:
    """Sent, answered, edited and deleted for real."""
    sends = [a_message(direct, alice.user, b"%d" % n, reply_to=n - 1 if n > 2 else None) for n in range(1, 6)]
    for send in sends:
        await stored.send(pool, ParticipantsCache(), [send])
    await revisions.edit(pool, alice.user, direct, 2, 0, "text", b"edited", None, b"key")
    await revisions.delete_for_everyone(pool, alice.user, direct, 3)
    await revisions.delete_for_me(pool, bob.user, direct, 4)
    before = (await stored.history(pool, alice.user, direct, limit=10, after=0)).messages
    assert len(before) == 5
    assert {type(each) for each in before} == {Message, Tombstone}
    key = await write_archive(objects, direct, before)
    await pool.fetch("delete from messages")
    assert await read_archive(objects, key) == before


async def test_format_is_the_documented_one(objects: Folder) -> None:
    """Read without our code: a gzip file of a CBOR sequence, a header and the frames that clients get."""
    key = await write_archive(objects, CONVERSATION, MESSAGES)
    assert key == f"{FOLDER}/0000000000000000007-0000000000000000010.cbor.gz"
    stream = BytesIO(gzip.decompress(await objects.get(key)))
    header = cbor2.load(stream)
    records = stream.read()
    assert header == {
        "format": "alo-archive",
        "version": 1,
        "conversation": CONVERSATION,
        "first": 7,
        "last": 10,
        "count": 4,
        "created_first": MESSAGES[0].created,
        "created_last": MESSAGES[-1].created,
        "sha256": sha256(records).digest(),
    }
    assert records == b"".join(map(encode, MESSAGES))
    text = (ROOT / "docs" / "archive.md").read_text()
    assert all(f"`{name}`" in text for name in header)


async def test_same_messages_make_the_same_bytes(objects: Folder) -> None:
    key = await write_archive(objects, CONVERSATION, MESSAGES)
    before = await objects.get(key)
    assert await write_archive(objects, CONVERSATION, list(MESSAGES)) == key
    assert await objects.get(key) == before
    assert [archive.key for archive in await list_archives(objects, CONVERSATION)] == [key]


async def test_archives_are_listed_by_their_ranges_and_nothing_else_is(objects: Folder) -> None:
    keys = [
        await write_archive(objects, CONVERSATION, [message(seq) for seq in range(first, last + 1)])
        for first, last in ((99, 101), (1, 9), (10, 98))
    ]
    await objects.put(f"{FOLDER}/notes.txt", b"an operator's", "text/plain")
    other = bytes(16)
    await write_archive(objects, other, [Tombstone(other, 1, other, 1, other)])
    listed = await list_archives(objects, CONVERSATION)
    assert [(archive.key, archive.first, archive.last) for archive in listed] == [
        (keys[1], 1, 9),
        (keys[2], 10, 98),
        (keys[0], 99, 101),
    ]
    assert all([archive.size_bytes == len(await objects.get(archive.key)) for archive in listed])
    assert await list_archives(objects, b"x" * 16) == []


async def test_longer_range_takes_the_place_of_those_within_it(objects: Folder) -> None:
    """A process crashed after writing 4 to 6; then 5 was deleted for everyone: its content is gone everywhere."""
    await write_archive(objects, CONVERSATION, [message(seq) for seq in range(1, 5)])
    await write_archive(objects, CONVERSATION, [message(seq) for seq in range(4, 7)])
    await write_archive(objects, CONVERSATION, [message(seq) for seq in range(6, 9)])
    await write_archive(objects, CONVERSATION, [message(4), tombstone(5), message(6), message(7)])
    ranges = [(archive.first, archive.last) for archive in await list_archives(objects, CONVERSATION)]
    assert ranges == [(1, 4), (4, 7), (6, 8)]
    read = [each async for each in read_conversation(objects, CONVERSATION)]
    assert [each.seq for each in read] == list(range(1, 9))
    assert read[4] == tombstone(5)


async def test_the_reader_yields_the_last_state_of_a_message_in_two_archives(objects: Folder) -> None:
    edited = message(3, b"edited", revision=2, edited=1_700_000_000_000_100)
    await write_archive(objects, CONVERSATION, [message(1), tombstone(2), edited])
    await write_archive(objects, CONVERSATION, [message(2), message(3), message(4)])
    read = [each async for each in read_conversation(objects, CONVERSATION)]
    assert read == [message(1), tombstone(2), edited, message(4)]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [message(1), message(3)],
        [message(2), message(1)],
        [message(1), message(1)],
        [message(1), Tombstone(b"x" * 16, 2, b"m" * 16, 1, b"s" * 16)],
        [message(seq) for seq in range(1, archive_module.MAX_MESSAGES + 2)],
    ],
    ids=["none", "a gap", "backwards", "twice", "of another conversation", "too many"],
)
async def test_messages_that_are_not_a_range_are_not_archived(
    objects: Folder, messages: list[Message | Tombstone]
) -> None:
    with pytest.raises(ValueError, match="archive"):
        await write_archive(objects, CONVERSATION, messages)
    assert await objects.list("") == []


def packed(header: dict[str, Any], records: bytes) -> bytes:
    return gzip.compress(cbor2.dumps(header) + records)


@dataclass
class DamageableArchive:
    """A good archive, and ways to damage it."""

    data: bytes
    header: dict[str, Any]
    records: bytes

    def other(self, **changes: Any) -> bytes:
        return packed({**self.header, **changes}, self.records)

    def with_records(self, records: bytes) -> bytes:
        return packed({**self.header, "sha256": sha256(records).digest()}, records)


FAULTS: dict[str, tuple[Any, str]] = {
    "cut short": (lambda good: good.data[:-1], "ends too early"),
    "with something behind it": (lambda good: good.data + b"x", "ends too early, or too late"),
    "with another byte": (lambda good: good.data[:-40] + b"\xff" + good.data[-39:], "damaged"),
    "not made by gzip": (lambda good: good.records, "not made by gzip"),
    "empty": (lambda good: b"", "ends too early"),
    "without a header": (lambda good: gzip.compress(b""), "header cannot be read"),
    "with another header": (lambda good: gzip.compress(cbor2.dumps({"format": "x"})), "header cannot be read"),
    "of another format": (lambda good: good.other(format="tar"), "format tar 1, not alo-archive 1"),
    "of a later version": (lambda good: good.other(version=2), "format alo-archive 2, not"),
    "with another checksum": (lambda good: good.other(sha256=bytes(32)), "checksum"),
    "of another range": (lambda good: good.other(last=11), "not those that its header names"),
    "of another conversation": (lambda good: good.other(conversation=bytes(16)), "not those that its header"),
    "without a record": (lambda good: good.with_records(encode(MESSAGES[0])), "not those that its header names"),
    "with a record that is none": (lambda good: good.with_records(b"\xa1\x00\x18\x80"), "a record cannot be read"),
    "unpacked without end": (lambda good: gzip.compress(bytes(2_000_000)), "more than 1000000 bytes, unpacked"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_archive_that_is_damaged_is_refused_by_name(
    objects: Folder, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1_000_000)
    key = await write_archive(objects, CONVERSATION, MESSAGES)
    assert await read_archive(objects, key) == MESSAGES
    data = await objects.get(key)
    stream = BytesIO(gzip.decompress(data))
    damage, reason = FAULTS[fault]
    await objects.put(key, damage(DamageableArchive(data, cbor2.load(stream), stream.read())), "application/gzip")
    with pytest.raises(BadArchive, match=f"^archive {key}: .*{reason}"):
        await read_archive(objects, key)


async def test_archive_that_is_not_there_is_missing(objects: Folder) -> None:
    with pytest.raises(ObjectMissing):
        await read_archive(objects, key_of(CONVERSATION, 1, 2))


async def test_archive_that_could_not_be_written_is_no_success(
    objects: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archives within it stay: no other object has their messages."""
    await write_archive(objects, CONVERSATION, [message(1), message(2)])

    async def fail(key: str, data: bytes, content_type: str) -> None:
        raise Unavailable("the object store", "somewhere", "status 503")

    monkeypatch.setattr(objects, "put", fail)
    with pytest.raises(Unavailable):
        await write_archive(objects, CONVERSATION, [message(1), message(2), message(3)])
    assert [(archive.first, archive.last) for archive in await list_archives(objects, CONVERSATION)] == [(1, 2)]


async def test_command_prints_the_archives_of_a_conversation(
    objects: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await write_archive(objects, CONVERSATION, MESSAGES)
    await print_archive(Config(object_store_url=(tmp_path / "objects").as_uri()), "list", CONVERSATION)
    size_bytes = len(await objects.get(key))
    assert json.loads(capsys.readouterr().out) == {"key": key, "first": 7, "last": 10, "size_bytes": size_bytes}


async def test_command_prints_archives_as_lines_of_json(objects: Folder, tmp_path: Path) -> None:
    conversation = str(UUID(bytes=CONVERSATION))
    await write_archive(objects, CONVERSATION, MESSAGES)
    read = await trio.run_process(
        [sys.executable, "-m", "store", "archive", "read", conversation],
        cwd=ROOT,
        env={**os.environ, "OBJECT_STORE_URL": (tmp_path / "objects").as_uri()},
        capture_stdout=True,
    )
    lines = [json.loads(line) for line in read.stdout.splitlines()]
    assert [(line["type"], line["seq"]) for line in lines] == [
        ("message", 7),
        ("message", 8),
        ("tombstone", 9),
        ("message", 10),
    ]
    assert lines[1].pop("message") == str(UUID(int=8))
    assert b64decode(lines[1].pop("content")) == bytes(range(256))
    assert lines[1] == {
        "type": "message",
        "conversation": conversation,
        "seq": 8,
        "created": MESSAGES[1].created,
        "sender": str(UUID(bytes=b"s" * 16)),
        "content_type": "image/ä",
        "ephemeral_public_key": "a2tr" * 10 + "a2s=",
    }
    assert (lines[3]["revision"], lines[3]["edited"], lines[3]["reply_to"]) == (3, 1_700_000_000_000_999, 7)


@pytest.mark.parametrize(
    ("conversation", "url", "said"),
    [
        ("general", "", "CONVERSATION must be a UUID, not general"),
        (str(UUID(int=1)), "", "OBJECT_STORE_URL is not set: there are no archives"),
    ],
)
def test_command_says_its_fault_in_a_sentence(
    conversation: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["store", "archive", "read", conversation])
    monkeypatch.setattr(process, "configure_logging", lambda *_: None)
    monkeypatch.setenv("OBJECT_STORE_URL", url)
    with pytest.raises(SystemExit, match=f"^{said}$"):
        main()
