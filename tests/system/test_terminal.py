"""The command line against real servers: a user registers, chats, and reads the history."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import trio

from store import contacts
from store.postgres.pool import Pool
from tests.processes import Cluster, open_cluster

PATIENCE_S = 60.0


class Terminal:
    """A user at a keyboard, by `python -m client`."""

    def __init__(self, cluster: Cluster, socket_url: str, home: Path) -> None:
        self._environment = {
            **os.environ,
            "ALO_HTTP_URL": cluster.http_url,
            "ALO_SOCKET_URL": socket_url,
            "ALO_PASSWORD": "a long enough password",
            "XDG_CONFIG_HOME": str(home),
        }

    async def run(self, *arguments: str, typed: str = "") -> list[str]:
        """Run a command to its end; its output lines."""
        with trio.fail_after(PATIENCE_S):
            result = await trio.run_process(
                [sys.executable, "-m", "client", *arguments],
                stdin=typed.encode(),
                capture_stdout=True,
                capture_stderr=True,
                env=self._environment,
                check=False,
            )
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode().splitlines()

    async def open(self, *arguments: str) -> Screen:
        """A command that goes on."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "client", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )
        return Screen(process)


class Screen:
    """A running command; leaving the block types Ctrl-D and waits for its end."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._shown = b""

    async def __aenter__(self) -> Screen:
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.aclose()
            with trio.fail_after(PATIENCE_S):
                assert await self._process.wait() == 0
        finally:
            if self._process.returncode is None:
                self._process.kill()

    async def type(self, line: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")

    async def wait_line(self, end: str) -> None:
        """Wait until a line ends like this; skip earlier lines."""
        assert self._process.stdout is not None
        with trio.fail_after(PATIENCE_S):
            while True:
                line, separator, rest = self._shown.partition(b"\n")
                if not separator:
                    chunk = await self._process.stdout.receive_some()
                    assert chunk, f"ended before it showed {end!r}"
                    self._shown += chunk
                    continue
                self._shown = rest
                if line.decode().endswith(end):
                    return


async def make_contacts(pool: Pool, *names: str) -> None:
    """So that neither user sees the other's conversation as a request."""
    users = [
        user for name in names for (user,) in await pool.fetch("select id from users where username = %s", (name,))
    ]
    for user, other in permutations(users, 2):
        await contacts.add(pool, user, other)


async def test_two_people_talk_change_what_they_said_and_read_it_again(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        await cluster.start_web()
        nodes = [(await cluster.start_socket())[1] for _ in range(2)]
        alice, bob = (Terminal(cluster, node, tmp_path / node[-5:]) for node in nodes)
        assert await alice.run("register", "alice") == ["registered and logged in as alice"]
        assert await bob.run("register", "bob") == ["registered and logged in as bob"]
        assert await bob.run("login", "bob") == ["logged in as bob"]
        await make_contacts(pool, "alice", "bob")
        async with await alice.open("chat", "alice", "bob") as here:
            async with await bob.open("chat", "bob", "alice") as there:
                await here.wait_line("-- bob is online")
                await here.type("helo")
                await there.wait_line(" alice: helo")
                await here.type("/edit hello")
                await there.wait_line(" alice: hello (edited)")
                await there.type("never mind")
                await here.wait_line(" bob: never mind")
                await there.type("/delete")
                await here.wait_line(" bob: (deleted)")
            await here.wait_line("-- bob is offline")
            await here.type("are you gone?")
        shown = [line.split(": ", 1)[1] for line in await bob.run("history", "bob", "alice")]
        assert shown == ["hello (edited)", "(deleted)", "are you gone?"]
        [listed] = await bob.run("list", "bob")
        assert listed.startswith("alice [1 unread]: ")
        assert listed.endswith(" alice: are you gone?")
        await bob.run("chat", "bob", "alice", typed="back\n")
        [listed] = await bob.run("list", "bob")
        assert listed.startswith("alice: "), "a message that was shown and answered is read"


async def test_a_chat_survives_a_gateway_that_is_killed_and_comes_back(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        await cluster.start_web()
        gateway, url = await cluster.start_socket()
        alice = Terminal(cluster, url, tmp_path)
        for name in ("alice", "bob"):
            await alice.run("register", name)
        await make_contacts(pool, "alice", "bob")
        async with await alice.open("chat", "alice", "bob") as here, await alice.open("chat", "bob", "alice") as there:
            await here.wait_line("-- bob is online")
            # Bob is online a moment before his chat has begun; until it has, it gives up a lost connection early.
            await there.wait_line("-- alice is online")
            gateway.kill()
            for screen in (here, there):
                await screen.wait_line("-- the connection is lost; reconnecting")
            await here.type("typed while away")
            await cluster.start_socket(port=int(url.rpartition(":")[2]))
            await here.wait_line("-- connected again")
            await there.wait_line(" alice: typed while away")
