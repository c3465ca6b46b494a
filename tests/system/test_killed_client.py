"""A client that encrypts is killed between each two of its steps: it never encrypts twice with one key, and each of its
messages comes once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest
import trio
import vodozemac

from client.e2ee.wire import Envelope, SealedContent, decode
from client.http import Credentials
from store.postgres.pool import Pool
from tests.client.e2ee.keyring_world import cheap_passphrases
from tests.planted import PLANTED
from tests.processes import open_cluster
from tests.system.encryption_world import phone

LEAST_STEPS = 20
"""Of a child that sends one message: else the test would kill at few of them."""


def place_of_content(content: bytes) -> tuple[str, int] | None:
    """The ratchet and the index of the key; None if the content is a key message's, or empty."""
    try:
        sealed = decode(content, SealedContent)
    except Exception:
        return None
    return sealed.ratchet, vodozemac.MegolmMessage.from_bytes(sealed.ciphertext).message_index()


def place_of_envelope(data: bytes) -> tuple[bytes, int]:
    """The public ratchet key and the index of the key of an Olm message (https://gitlab.matrix.org/matrix-org/olm,
    docs/olm.md): fields of Protocol Buffers behind a version byte."""
    envelope = decode(data, Envelope)
    fields = fields_of(envelope.body[1:])
    if envelope.kind == 0:
        inner = fields[4]
        assert isinstance(inner, bytes)
        fields = fields_of(inner[1:])
    key, index = fields[1], fields[2]
    assert isinstance(key, bytes)
    assert isinstance(index, int)
    return key, index


CIPHERTEXT = 4
"""The last field: the MAC of a message follows it without a tag."""


def fields_of(data: bytes) -> dict[int, int | bytes]:
    found: dict[int, int | bytes] = {}
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while CIPHERTEXT not in found:
        tag = varint()
        value = varint()
        if tag & 7 == 2:
            found[tag >> 3] = data[place : place + value]
            place += value
        else:
            found[tag >> 3] = value
    return found


async def test_no_key_encrypts_twice_and_each_message_comes_once_if_the_client_is_killed_at_any_step(
    pool: Pool,
    redis_url: str,
    alice: Credentials,
    bob: Credentials,
    direct: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cheap_passphrases(monkeypatch.setattr)
    folder, log = tmp_path / "vault", tmp_path / "left.jsonl"
    async with open_cluster(pool.url, redis_url) as cluster:
        _, url = await cluster.start_socket()
        arguments = {
            "urls": [url],
            "credentials": msgspec.to_builtins(alice),
            "folder": str(folder),
            "conversation": direct.hex(),
            "log": str(log),
            "text": f"{PLANTED} text",
        }
        (tmp_path / "arguments.json").write_text(json.dumps(arguments))
        async with phone([url], bob, tmp_path / "bob", "bob's") as reader:
            with trio.fail_after(180):
                ended = await trio.run_process(
                    [sys.executable, "-m", "tests.system.killed_writer", str(tmp_path / "arguments.json")],
                    capture_stdout=True,
                )
            runs = [tuple(map(int, line.split())) for line in ended.stdout.splitlines()]
            assert len(runs) >= LEAST_STEPS
            last = runs[-1][0]
            with trio.fail_after(30):
                while f"{PLANTED} text {last}" not in reader.read(direct).values():
                    await reader.session.messages.__anext__()
            read = list(reader.read(direct).values())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    queued = [line for line in lines if isinstance(line, str)]
    assert read == queued, "each once, in order"
    assert len(queued) >= LEAST_STEPS // 2
    contents: dict[tuple[str, int], set[bytes]] = {}
    envelopes: dict[tuple[bytes, int], set[bytes]] = {}
    for content, some in (line for line in lines if not isinstance(line, str)):
        place = place_of_content(bytes.fromhex(content))
        if place is not None:
            contents.setdefault(place, set()).add(bytes.fromhex(content))
        for each in map(bytes.fromhex, some):
            envelopes.setdefault(place_of_envelope(each), set()).add(each)
    assert len(contents) >= len(queued)
    assert len(envelopes) >= LEAST_STEPS // 2
    assert all(len(same) == 1 for same in (*contents.values(), *envelopes.values()))
