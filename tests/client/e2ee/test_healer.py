"""Messages that heal by themselves, through a server: a device that lacks a key reports it, and its sender gives it
again."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from client.connection import connect
from client.e2ee.keyring import Keyring
from client.e2ee.vault import open_vault
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from client.http import Credentials
from protocol.frames import Undecryptable
from protocol.limits import ENVELOPE_DAYS
from server.gateway import healing
from store import envelopes, undecryptable
from store.errors import QuotaExceeded
from store.postgres.pool import Pool
from tests.client.e2ee.keyring_world import cheap_passphrases
from tests.people import new_device, new_direct
from tests.server.node_world import TestNode, open_node
from tests.system.encryption_world import phone
from tests.waiting import DEADLINE_S, wait_until


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch.setattr)
    monkeypatch.setattr(healing, "POLL_S", 0.02)


class LostKeys:
    """Alice has written two texts to Bob while he was away; the envelopes with their key are damaged.

    :ivar sent: their seqs.
    """

    def __init__(self, pool: Pool, node: TestNode, folder: Path, alice: Credentials, bob: Credentials) -> None:
        self.pool = pool
        self.node = node
        self.folder = folder
        self.alice = alice
        self.bob = bob
        self.talk = b""
        self.sent: list[int] = []

    async def lose(self) -> None:
        self.talk = await new_direct(self.pool, self.alice, self.bob)
        async with phone([self.node.url], self.bob, self.folder, "bob's"):
            pass
        async with phone([self.node.url], self.alice, self.folder, "alice's") as sender:
            self.sent = [await sender.say(self.talk, text) for text in ("one", "two")]
        await self.pool.fetch("update envelopes set body = set_byte(body, length(body) - 1, get_byte(body, 40) # 255)")


@asynccontextmanager
async def lost_keys(
    pool: Pool, redis_url: str, folder: Path, alice: Credentials, bob: Credentials
) -> AsyncGenerator[LostKeys]:
    async with open_node(pool.url, redis_url) as node:
        made = LostKeys(pool, node, folder, alice, bob)
        await made.lose()
        yield made


async def test_a_lost_key_is_reported_given_again_and_opens_all_its_messages(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    async with lost_keys(pool, redis_url, tmp_path, alice, bob) as scene:
        async with phone([scene.node.url], bob, tmp_path, "bob's") as reader:
            await reader.load_all(scene.talk)
            await wait_until(lambda: sum(scene.node.gateway.healing.reported.values()) == 1, "the message is reported")
            await wait_until(lambda: reader.keyring.due_reports() == [], "it knows that the server has the report")
            assert reader.read(scene.talk) == {}
        async with phone([scene.node.url], alice, tmp_path, "alice's") as sender:
            await wait_until(lambda: sender.correspondent.healer.answered == 1, "told after the welcome, it answers")
            async with phone([scene.node.url], bob, tmp_path, "bob's") as reader:
                await reader.load_all(scene.talk)
                for seq in scene.sent:
                    await reader.wait_read(scene.talk, seq)
                assert reader.read(scene.talk) == dict(zip(scene.sent, ("one", "two"), strict=True))
        assert await undecryptable.told_reports(pool, alice.user, alice.device) == []
        [(reports,)] = await pool.fetch("select count(*) from undecryptable")
        assert reports == 1, "one for all messages of the key"


async def test_a_report_that_the_server_has_no_room_for_comes_later(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undecryptable, "MAX_OPEN_REPORTS", 0)
    report, refused = undecryptable.report, trio.Event()

    async def noted(*arguments: Any) -> bool:
        try:
            return await report(*arguments)
        except QuotaExceeded:
            refused.set()
            raise

    monkeypatch.setattr(healing, "report", noted)
    async with (
        lost_keys(pool, redis_url, tmp_path, alice, bob) as scene,
        phone([scene.node.url], bob, tmp_path, "bob's") as reader,
    ):
        await reader.load_all(scene.talk)
        with trio.fail_after(DEADLINE_S):
            await refused.wait()
        monkeypatch.setattr(undecryptable, "MAX_OPEN_REPORTS", 1)
        await wait_until(lambda: sum(scene.node.gateway.healing.reported.values()) == 1, "the message is reported")


async def test_a_device_that_was_away_until_the_envelopes_had_gone_gets_their_keys_again(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    """Bob's phone is older than the messages, and they are older than the days that envelopes are kept."""
    days = ENVELOPE_DAYS + 1
    vault = open_vault(tmp_path / f"{bob.device.hex()}.keys", "a passphrase")
    ratchets = VodozemacRatchets(vault.pickle_key)
    Keyring(vault, ratchets, bob.user, bob.device, clock=lambda: time.time() - 2 * days * 86400).close()
    async with lost_keys(pool, redis_url, tmp_path, alice, bob) as scene:
        for table in ("envelopes", "messages"):
            await pool.fetch(f"update {table} set created = created - make_interval(days => %s)", (days,))
        assert await envelopes.forget_envelopes(pool, limit=9) == 1
        async with (
            phone([scene.node.url], alice, tmp_path, "alice's"),
            phone([scene.node.url], bob, tmp_path, "bob's") as reader,
        ):
            await reader.load_all(scene.talk)
            for seq in scene.sent:
                await reader.wait_read(scene.talk, seq)
            assert reader.read(scene.talk) == dict(zip(scene.sent, ("one", "two"), strict=True))


async def test_a_device_that_was_not_given_the_key_gets_none_whatever_it_reports(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    """Bob's new device reports a message from before it was there. Then his phone reports it, and is answered."""
    async with lost_keys(pool, redis_url, tmp_path, alice, bob) as scene:
        late = await new_device(pool, bob.user)
        async with phone([scene.node.url], late, tmp_path, "late"):
            pass
        async with phone([scene.node.url], alice, tmp_path, "alice's") as sender:
            healer = sender.correspondent.healer
            async with connect(scene.node.url, late.token) as thief:
                for seq in scene.sent:
                    await thief.report_undecryptable(scene.talk, seq, "no_content_key", revision=0)
                await wait_until(lambda: healer.ignored == len(scene.sent), "its reports are refused")
            async with phone([scene.node.url], bob, tmp_path, "bob's") as reader:
                await reader.load_all(scene.talk)
                for seq in scene.sent:
                    await reader.wait_read(scene.talk, seq)
            assert healer.answered == 1
        rows = await pool.fetch("select devices from envelopes where seq = any(%(seqs)s)", {"seqs": scene.sent})
        assert [devices for (devices,) in rows] == [[bob.device]]


async def test_no_report_makes_a_device_answer_for_messages_that_it_has_not_written(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, bob: Credentials
) -> None:
    """A server that lies: of a message of another device, of none, of another revision, and of one in the clear."""
    async with (
        lost_keys(pool, redis_url, tmp_path, alice, bob) as scene,
        phone([scene.node.url], alice, tmp_path, "alice's") as sender,
    ):
        healer = sender.correspondent.healer
        plain = await sender.session.send(scene.talk, b"in the clear", content_type="text/plain")
        false = [
            Undecryptable(scene.talk, 99, bob.user, bob.device, None, "other"),
            Undecryptable(scene.talk, scene.sent[0], bob.user, bob.device, 3, "other"),
            Undecryptable(scene.talk, scene.sent[0], alice.user, alice.device, None, "other"),
            Undecryptable(scene.talk, plain.seq, bob.user, bob.device, None, "other"),
        ]
        for each in false:
            healer.note_undecryptable(each)
        await wait_until(lambda: healer.ignored == len(false), "all are ignored")
        assert healer.answered == 0
