"""The terminal client sends and saves files while it, and `web`, are killed."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import pytest

from client.chat import AVATAR_IS_OPEN
from embedded.ports import free_port
from protocol.limits import ATTACHMENT_PART_BYTES
from store.postgres.pool import Pool
from tests.processes import Cluster, Process, open_cluster
from tests.system.terminal import Terminal
from tests.system.test_terminal import make_contacts
from tests.waiting import wait_until

TRANSFER_S = 240.0
"""300 MB on a busy machine; the file is read twice and written three times."""


def write_file(path: Path, size_bytes: int) -> bytes:
    """A file of noise; returns its SHA-256."""
    noise, digest = random.Random(size_bytes), sha256()
    with path.open("wb") as file:
        for left in range(size_bytes, 0, -1_000_000):
            chunk = noise.randbytes(min(left, 1_000_000))
            digest.update(chunk)
            file.write(chunk)
    return digest.digest()


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        digest = sha256()
        while chunk := file.read(1_000_000):
            digest.update(chunk)
    return digest.digest()


def stored_parts(objects: Path) -> int:
    """The parts of unfinished uploads that count."""
    return sum(len(path.name.split("-")) == 3 for path in objects.rglob("*-*-*"))


class Deployment:
    """`web` on a fixed port, a gateway, and two users."""

    def __init__(self, cluster: Cluster, objects: Path) -> None:
        self._cluster = cluster
        self._port = free_port()
        self.objects = objects
        cluster.http_url = f"http://127.0.0.1:{self._port}"
        cluster.environment["OBJECT_STORE_URL"] = objects.as_uri()
        cluster.environment["PORT"] = str(self._port)

    async def start_web(self) -> Process:
        process = await self._cluster.start("server", "web")
        await process.wait_event("listening")
        return process

    async def start(self, home: Path) -> tuple[Process, Terminal, Terminal]:
        web = await self.start_web()
        _, socket_url = await self._cluster.start_socket()
        return (
            web,
            Terminal(self._cluster, socket_url, home / "alice"),
            Terminal(self._cluster, socket_url, home / "bob"),
        )


@pytest.mark.parametrize(
    ("size_bytes", "kills"), [(60_000_000, 1), pytest.param(300_000_000, 2, marks=pytest.mark.long)]
)
async def test_a_file_whose_upload_is_interrupted_arrives(
    pool: Pool, redis_url: str, tmp_path: Path, size_bytes: int, kills: int
) -> None:
    """The client is killed, and then web, each time once another part is stored. It is one upload all the same."""
    original, saved = tmp_path / "letter.bin", tmp_path / "saved.bin"
    digest = write_file(original, size_bytes)
    async with open_cluster(pool.url, redis_url) as cluster:
        world = Deployment(cluster, tmp_path / "objects")
        web, alice, bob = await world.start(tmp_path)
        await alice.run("register", "alice")
        await bob.run("register", "bob")
        await make_contacts(pool, "alice", "bob")
        seen = 0
        for _ in range(kills):
            async with await alice.open("chat", "alice", "bob") as here:
                await here.type(f"/send {original}")
                await wait_until(lambda least=seen: stored_parts(world.objects) > least, "a part", timeout_s=TRANSFER_S)
                await here.kill()
            seen = stored_parts(world.objects)
            assert seen <= size_bytes // ATTACHMENT_PART_BYTES, "it was interrupted before the end"
        async with await alice.open("chat", "alice", "bob") as here:
            await here.type("/help")
            await here.wait_line("leave, as Ctrl-D does")
            seen = stored_parts(world.objects)
            await here.type(f"/send {original}")
            await wait_until(lambda: stored_parts(world.objects) > seen, "a part", timeout_s=TRANSFER_S)
            web.kill()
            await web.wait()
            await world.start_web()
            await here.wait_line(f"-- sent letter.bin ({size_bytes} bytes)", timeout_s=TRANSFER_S)
        [line] = [line for line in await bob.run("history", "bob", "alice") if "[file" in line]
        assert " alice: letter.bin [file; /save " in line
        number = line.rpartition(" ")[2].rstrip("]")
        async with await bob.open("chat", "bob", "alice") as there:
            await there.type(f"/save {number} {saved}")
            await there.wait_line(f"-- saved {saved}", timeout_s=TRANSFER_S)
        assert digest_of(saved) == digest
        assert [row for (row,) in await pool.fetch("select count(*) from attachments")] == [1]


async def test_avatars_of_a_user_and_a_group_are_set_and_removed_in_a_chat(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.bin"
    digest = write_file(picture, 20_000)
    shown = "select digest from {} t join attachments a on a.id = t.avatar and a.is_shown"
    async with open_cluster(pool.url, redis_url) as cluster:
        world = Deployment(cluster, tmp_path / "objects")
        _, alice, bob = await world.start(tmp_path)
        await alice.run("register", "alice")
        await bob.run("register", "bob")
        await make_contacts(pool, "alice", "bob")
        async with await alice.open("chat", "alice", "bob", "--group", "Climbing") as here:
            for command, table in (("/avatar", "users"), ("/group-avatar", "conversations")):
                await here.type(f"{command} {picture}")
                await here.wait_line(f"-- {AVATAR_IS_OPEN}")
                assert await pool.fetch(shown.format(table)) == [(digest,)]
                await here.type(command)
                await here.wait_line("-- the avatar is removed")
                assert await pool.fetch(shown.format(table)) == []
