"""The command line against real servers: a user registers, chats, and reads the history."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from store import contacts
from store.postgres.pool import Pool
from tests.processes import open_cluster
from tests.system.terminal import Terminal


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
