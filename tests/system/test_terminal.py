"""The command line against real servers: a user registers, chats, and reads the history."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

from embedded.ports import free_port
from store import contacts
from store.postgres.pool import Pool
from tests.planted import PLANTED
from tests.processes import open_cluster
from tests.system.terminal import Terminal
from tests.system.test_key_secrecy import columns_with_secrets


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
        seen = [
            line.split(": ", 1)[1] for line in await bob.run("chat", "bob", "alice", typed="back\n") if ": " in line
        ]
        assert seen == shown, "older messages are shown once"
        [listed] = await bob.run("list", "bob")
        assert listed.startswith("alice: "), "a message that was shown and answered is read"


async def test_terminals_encrypt_and_users_compare_safety_numbers(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {"OBJECT_STORE_URL": (tmp_path / "objects").as_uri(), "PORT": str(port)}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        web = await cluster.start("server", "web")
        await web.wait_event("listening")
        cluster.http_url = f"http://127.0.0.1:{port}"
        _, url = await cluster.start_socket()
        alice, bob, other = (Terminal(cluster, url, tmp_path / name) for name in ("alice", "bob", "other"))
        await alice.run("register", "alice")
        await bob.run("register", "bob")
        await make_contacts(pool, "alice", "bob")
        plan, saved = tmp_path / "plan.txt", tmp_path / "saved.txt"
        plan.write_bytes(PLANTED.encode() * 1000)
        async with await alice.open("chat", "alice", "bob") as here, await bob.open("chat", "bob", "alice") as there:
            await here.wait_line("-- bob is online")
            await here.type(f"{PLANTED} one")
            await there.wait_line(f" alice: {PLANTED} one")
            await there.type(f"/reply {PLANTED} two")
            await here.wait_line(f" bob: [to alice: {PLANTED} one] {PLANTED} two")
            await here.type(f"/edit {PLANTED} won")
            await there.wait_line(f" alice: {PLANTED} won (edited)")
            await here.type(f"/send {plan}")
            line = await there.wait_text("plan.txt [file; /save ")
            await there.type(f"/save {line.rpartition(' ')[2].rstrip(']')} {saved}")
            await there.wait_text("-- saved")
            assert saved.read_bytes() == plan.read_bytes()
            numbers = []
            for screen, name in ((here, "bob"), (there, "alice")):
                await screen.type("/verify")
                numbers.append((await screen.wait_text(f"the safety number with {name}: ")).partition(": ")[2])
            assert numbers[0] == numbers[1]
            await here.type(f"/verify bob {numbers[0]}")
            await here.wait_text("that is the safety number with bob")
            await other.run("login", "bob")
            await here.wait_text("-- bob has a new device: the safety number has changed")
            await here.type("/verify")
            assert numbers[0] not in await here.wait_text("it is another one than you have compared: ")
            await here.type(f"{PLANTED} three")
            await there.wait_line(f" alice: {PLANTED} three")
        shown = [line.split(": ", 1)[1] for line in await other.run("history", "bob", "alice")]
        assert shown[-1] == f"{PLANTED} three"
        assert set(shown[:-1]) == {"(sent before this device)"}
        [listed] = await other.run("list", "bob")
        assert listed.endswith(f" alice: {PLANTED} three")
        assert await columns_with_secrets(pool) == set()
        stored = [file.read_bytes() for file in (tmp_path / "objects").rglob("*") if file.is_file()]
        assert stored
        assert not any(PLANTED.encode() in data or b"plan.txt" in data for data in stored)
        kept = [file for name in ("alice", "bob", "other") for file in (tmp_path / name).rglob("*") if file.is_file()]
        assert len([file for file in kept if file.suffix == ".keys"]) == 3
        assert not any(PLANTED.encode() in file.read_bytes() for file in kept)
        await alice.run("logout", "alice")
        assert not [file for file in (tmp_path / "alice").rglob("*") if file.suffix in (".keys", ".json")]


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
