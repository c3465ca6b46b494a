"""People with several devices encrypt for each other, through a gateway that is killed: each device reads what was sent
while it was in the set and nothing else, and nobody between them reads anything."""

from __future__ import annotations

from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import pytest
import trio

from client.e2ee.reading import UnreadableMessage
from client.http import Credentials, HttpClient
from embedded.redis import RedisServer
from protocol.frames import Message
from store.postgres.pool import Pool
from tests.client.e2ee.keyring_world import cheap_passphrases
from tests.people import new_device, new_direct, new_group, new_user
from tests.planted import PLANTED
from tests.processes import Cluster, open_cluster
from tests.store.store_world import running
from tests.system.encryption_world import PATIENCE_S, Phone, open_keys, read_by, run_phone
from tests.system.recorder import recording
from tests.system.test_key_secrecy import NEEDLES, columns_with_secrets, has_secret, in_redis

OPEN_TEXT: Final = "a text that nobody has encrypted"
"""It shows that each search finds what is there."""


class Scenario:
    """A conversation, the devices in it, and the texts that each of them must be able to read."""

    def __init__(self, talk: bytes) -> None:
        self._talk = talk
        self.present: list[Phone] = []
        self.expected: dict[str, dict[int, str]] = {}
        self._number = 0

    def join(self, device: Phone) -> None:
        self.present.append(device)
        self.expected[device.name] = {}

    async def all_speak(self) -> None:
        """Each present device sends a text, which all present ones read."""
        for speaker in self.present:
            self._number += 1
            text = f"{PLANTED} number {self._number} of {speaker}"
            seq = await speaker.say(self._talk, text)
            for device in self.present:
                self.expected[device.name][seq] = text
                await device.wait_read(self._talk, seq)


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passphrases(monkeypatch.setattr)


@pytest.mark.parametrize("people", [("alice", "bob"), ("alice", "bob", "carol", "dave", "erin")])
@pytest.mark.usefixtures("_cheap")
async def test_each_device_reads_the_messages_of_its_time_in_the_set_and_no_server_reads_any(
    pool: Pool, own_redis: RedisServer, tmp_path: Path, people: tuple[str, ...]
) -> None:
    users = [await new_user(pool, name) for name in people]
    talk = await (new_direct(pool, *users) if len(users) == 2 else new_group(pool, *users))
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_cluster(pool.url, own_redis.url, LOG_LEVEL="debug"))
        processes = [await cluster.start_web(), await cluster.start_worker()]
        gateways = [await cluster.start_socket() for _ in range(2)]
        processes += [process for process, _ in gateways]
        recorders = [await stack.enter_async_context(recording(url)) for _, url in gateways]
        urls = [recorder.url for recorder in recorders]

        async def add(credentials: Credentials, name: str) -> Phone:
            number = len(scenario.expected)
            order = urls[number % 2 :] + urls[: number % 2]
            made: Phone = await nursery.start(run_phone, order, credentials, tmp_path, name)
            scenario.join(made)
            return made

        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        scenario = Scenario(talk)
        for user, name in zip(users, people, strict=True):
            await add(user, f"{name}'s first")
            await add(await new_device(pool, user.user), f"{name}'s second")
        await scenario.all_speak()

        late = await add(await new_device(pool, users[1].user), "bob's third")
        await scenario.all_speak()
        assert any(change.device == late.session.device for change in scenario.present[0].changes)

        revoked = scenario.present.pop(1)
        await revoke(cluster, revoked)
        with trio.fail_after(PATIENCE_S):
            await revoked.revoked.wait()
        gateways[0][0].kill()
        await scenario.all_speak()
        processes.append((await cluster.start_socket(port=int(gateways[0][1].rpartition(":")[2])))[0])
        await scenario.all_speak()

        for device in scenario.present:
            await device.load_all(talk)
            assert device.read(talk) == scenario.expected[device.name]
        held = late.session.mailbox.messages(talk)
        assert UnreadableMessage("before") in [late.keyring.read(each) for each in held if isinstance(each, Message)]
        with closing(open_keys(revoked.credentials, tmp_path)) as keyring:
            # It gets all ciphertexts from a friend at the server, and cannot read those after it was revoked.
            everything = scenario.present[0].session.mailbox.messages(talk)
            assert read_by(keyring, everything) == scenario.expected[revoked.name]

        await scenario.present[0].session.send(talk, OPEN_TEXT.encode(), content_type="text/plain")
        traffic = b"".join(recorder.messages() for recorder in recorders)
        assert OPEN_TEXT.encode() in traffic
        assert not any(needle in traffic for needle in NEEDLES)
        assert await columns_with_secrets(pool) == set()
        [(stored,)] = await pool.fetch("select count(*) from messages where content = %s", (OPEN_TEXT.encode(),))
        assert stored == 1
        async with running(own_redis.url) as redis:
            assert not has_secret(await in_redis(redis))
        for process in processes:
            written = "\n".join(process.raw).encode()
            assert b'"event":' in written, "the log of each process is searched"
            assert not has_secret(written)
            assert OPEN_TEXT.encode() not in written, "logs have no content, encrypted or not"
        for file in list(tmp_path.glob("*.keys")):  # noqa: ASYNC240
            assert not has_secret(file.read_bytes()), "the keys' own files tell nothing either"


async def revoke(cluster: Cluster, device: Phone) -> None:
    """The device logs out."""
    async with HttpClient(cluster.http_url, token=device.credentials.token) as http:
        await http.log_out()
