"""`ops message`: why a message did not arrive, on real Postgres, Redis and nodes."""

from __future__ import annotations

from uuid import UUID, uuid4

from client.connection import connect
from client.http import Credentials
from store import notifiers, outbox, participants
from store.notifiers import WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import set_suspended
from tests.people import new_device, new_direct, new_group, new_user
from tests.processes import open_cluster
from tests.server.cli.shell_world import OperatorDesk, Shell, fields_of, open_desk
from tests.server.http_world import say
from tests.server.node_world import open_node

SECRET = b"the content that no operator sees"


async def states(desk: OperatorDesk, *which: str) -> dict[str, str]:
    return {row["user"]: row["state"] for row in (await desk.sections("message", *which))["recipients"]}


async def notice_states(desk: OperatorDesk, *which: str) -> dict[str, str]:
    return {row["user"]: row["state"] for row in (await desk.sections("message", *which))["notices"]}


def place(conversation: bytes, seq: int = 1) -> tuple[str, str]:
    return str(UUID(bytes=conversation)), str(seq)


async def test_a_timeline_says_which_devices_have_the_message_and_why_the_others_lack_it(
    pool: Pool, redis_url: str
) -> None:
    """As an operator asks for it: real nodes, a real client that marks, and a process that prints tables."""
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    tablet = await new_device(pool, bob.user)
    group = await new_group(pool, alice, bob, carol)
    async with open_cluster(pool.url, redis_url) as cluster:
        (one, here), (other, there) = await cluster.start_socket(), await cluster.start_socket()
        for process in (one, other):
            await process.wait_event("caught_up")
        shell = Shell(**cluster.environment)
        async with connect(there, bob.token) as phone, connect(here, alice.token) as sender:
            sent = await sender.send(group, SECRET, temp_id=uuid4().bytes)
            await phone.mark_delivered([(group, 1)])
            typed = await shell.types("message", str(UUID(bytes=sent.message)))
            found = await shell.asks("message", *place(group))
        node = (await other.wait_event("listening"))["node"]
    assert (typed.status, typed.err) == (0, "")
    for text in (typed.out, found.out):
        assert SECRET.decode() not in text
        assert "Group" not in text
    events = {row["event"]: row for row in found.sections["timeline"]}
    assert events["accepted"]["at"] is not None
    assert events["committed"]["at"] is not None
    assert events["pushed"] == {
        "at": None,
        "event": "pushed",
        "detail": "not stored; it follows from the marks and connections below",
    }
    assert events["marked"]["detail"] == "by 1 of 2 recipients; 0 have read it"
    recipients = {row["user"]: row for row in found.sections["recipients"]}
    assert (recipients["bob"]["state"], recipients["bob"]["nodes"]) == ("delivered", node)
    assert (recipients["carol"]["state"], recipients["carol"]["nodes"]) == ("away", "")
    devices = {row["device"]: (row["user"], row["node"], row["state"]) for row in found.sections["devices"]}
    assert devices == {
        str(UUID(bytes=bob.device)): ("bob", node, "marked"),
        str(UUID(bytes=tablet.device)): ("bob", None, "away"),
        str(UUID(bytes=carol.device)): ("carol", None, "away"),
    }
    lines = typed.out.splitlines()
    for title in ("message", "timeline", "recipients", "devices", "notices"):
        assert title in lines


async def test_each_reason_that_a_user_lacks_a_message_is_told_apart(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    names = ("muted", "blocks", "suspended", "late", "gone", "logged_out", "reads")
    people = {name: await new_user(pool, name.replace("_", "-")) for name in names if name != "blocks"}
    early = [people[name] for name in names if name not in ("late", "blocks")]
    group = await new_group(pool, alice, *early)
    await participants.remove(pool, alice.user, group, people["gone"].user)
    await say(pool, group, alice.user, SECRET)
    await participants.add(pool, alice.user, group, people["late"].user)
    await participants.mute(pool, people["muted"].user, group, seconds=3600)
    await set_suspended(pool, people["suspended"].user, is_suspended=True, source=Source("operator"))
    await pool.fetch("update devices set revoked = now() where user_id = %s", (uuid(people["logged_out"].user),))
    await pool.fetch(
        "update participants set delivered_seq = 1, read_seq = 1 where user_id = %s", (uuid(people["reads"].user),)
    )
    async with open_desk(pool, redis_url) as desk:
        assert await states(desk, *place(group)) == {
            "muted": "away",
            "suspended": "suspended",
            "late": "joined_later",
            "gone": "left_before",
            "logged-out": "no_device",
            "reads": "read",
        }
        told = await notice_states(desk, *place(group))
        assert {name: told[name] for name in ("muted", "suspended", "late", "reads")} == {
            "muted": "muted",
            "suspended": "suspended",
            "late": "not_for_them",
            "reads": "not_needed",
        }
        [only] = (await desk.sections("message", *place(group), "--user", "late"))["recipients"]
        assert only["user"] == "late"


async def test_a_message_to_a_user_who_blocks_the_sender_is_silent(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    conversation = await new_direct(pool, alice, bob)
    await pool.fetch(
        "update conversations set low_blocks = (direct_low = %(u)s::uuid), high_blocks = (direct_high = %(u)s::uuid)",
        {"u": uuid(bob.user)},
    )
    await say(pool, conversation, alice.user, SECRET)
    async with open_desk(pool, redis_url) as desk:
        assert await states(desk, *place(conversation)) == {"bob": "blocked"}
        shown = await desk.sections("message", *place(conversation))
        assert "silent" in [row["event"] for row in shown["timeline"]]


async def test_a_notice_is_followed_through_its_window_its_job_and_its_failure(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await notifiers.add(pool, bob.user, WebhookTarget("https://hooks.example.org/"))
    await say(pool, direct, alice.user, SECRET)
    async with open_desk(pool, redis_url) as desk:
        assert await notice_states(desk, *place(direct)) == {"bob": "debounce"}
        await pool.fetch("update messages set created = created - interval '1 minute'")
        await pool.fetch("update outbox set created = created - interval '1 minute'")
        assert await notice_states(desk, *place(direct)) == {"bob": "worker_behind"}
        await outbox.decide(pool, window_s=1)
        assert await notice_states(desk, *place(direct)) == {"bob": "waiting"}
        await pool.fetch("insert into paused_tasks (task) values ('notify')")
        assert await notice_states(desk, *place(direct)) == {"bob": "paused"}
        await pool.fetch("delete from paused_tasks")
        await pool.fetch("delete from jobs")
        await pool.fetch(
            "update notifiers set failing_since = now(), failures = 1, last_error = 'the webhook answered 500'"
        )
        shown = await desk.sections("message", *place(direct))
        [row] = shown["notices"]
        assert (row["state"], "the webhook answered 500" in row["why"]) == ("failing", True)
        assert "hooks.example" not in str(shown)


async def test_without_redis_the_answer_says_what_is_not_known(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, SECRET)
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL="redis://127.0.0.1:1")
    found = await shell.asks("message", *place(direct))
    assert fields_of(found.sections["message"])["nodes"] == "Redis cannot be reached"
    [recipient] = found.sections["recipients"]
    assert (recipient["state"], recipient["nodes"]) == ("unknown", None)


async def test_a_deleted_message_says_who_deleted_it(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, SECRET)
    await pool.fetch("update messages set deleted = now(), content = '', nonce = null")
    async with open_desk(pool, redis_url) as desk:
        shown = await desk.sections("message", *place(direct))
        [deleted] = [row for row in shown["timeline"] if row["event"] == "deleted"]
        assert deleted["detail"] == "for everyone, by the sender"
        assert await states(desk, *place(direct)) == {"bob": "deleted"}


async def test_a_thing_that_does_not_exist_is_named_with_what_to_do(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, SECRET)
    name, nobody = str(UUID(bytes=direct)), str(uuid4())
    async with open_desk(pool, redis_url) as desk:
        for command, why in (
            (("x",), "x is no id"),
            ((nobody,), "there is no message"),
            ((name,), f"{name} is a conversation: give SEQ, too"),
            ((nobody, "1"), f"there is no conversation {nobody}"),
            ((name, "0"), "SEQ must be a number of 1 or more"),
            ((name, "2"), "its last one is 1; without `sent` the sender's client must send it again"),
            ((name, "1", "--user", "bbo"), "there is no user bbo; do you mean bob?"),
            ((name, "1", "--user", "alice"), "alice is the sender"),
        ):
            assert why in await desk.is_told_why_not("message", *command), command
        await pool.fetch("update conversations set floor_seq = 1")
        await pool.fetch("delete from messages")
        assert "those up to 1 have expired" in await desk.is_told_why_not("message", name, "1")
    typed = await Shell(DATABASE_URL=pool.url, REDIS_URL=redis_url).is_told_why_not("message", nobody)
    assert typed.startswith("there is no message")


async def test_the_worker_takes_no_notice_of_the_question(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """To look changes nothing: not a row, and not what the worker does next."""
    await say(pool, direct, alice.user, SECRET)
    rows = "select (select count(*) from security_events), (select count(*) from jobs), (select count(*) from outbox)"
    before = await pool.fetch(rows)
    async with open_desk(pool, redis_url) as desk, open_node(pool.url, redis_url):
        await desk.sections("message", *place(direct))
    assert await pool.fetch(rows) == before
    await outbox.decide(pool, window_s=0.0)
    assert await pool.fetch("select task from jobs") == [("offline_notice",)]
