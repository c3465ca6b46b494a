"""`ops audit`: security events, for operators."""

from __future__ import annotations

from uuid import UUID

from client.http import Credentials
from store import security_events
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import set_suspended
from tests.server.cli.shell_world import Shell, open_desk


async def test_events_are_listed_with_their_actors_the_newest_first(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    await set_suspended(pool, alice.user, is_suspended=True, source=Source("operator", operator="grace"))
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL=redis_url)
    rows = (await shell.asks("audit")).rows
    assert [(row["kind"], row["actor"], row["user"]) for row in rows] == [
        ("account_suspended", "operator grace", str(UUID(bytes=alice.user))),
        ("login", "system", str(UUID(bytes=alice.user))),
        ("registered", "system", str(UUID(bytes=alice.user))),
    ]
    assert len((await shell.asks("audit", "--limit", "1")).rows) == 1


async def test_the_events_of_a_user_are_shown_and_the_user_sees_that(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    async with open_desk(pool, redis_url) as desk:
        rows = await desk.rows("audit", "--user", "bob", "--as", "grace")
        assert {row["user"] for row in rows} == {str(UUID(bytes=bob.user))}
        [newest, *_] = await security_events.events_of(pool, bob.user, limit=1)
        assert (newest.kind, newest.operator) == ("events_read", "grace")
        assert "there is no user bbo" in await desk.is_told_why_not("audit", "--user", "bbo")


async def test_only_events_since_a_time_are_shown(pool: Pool, redis_url: str, alice: Credentials) -> None:
    await pool.fetch("update security_events set at = '2026-01-10T12:00:00Z' where kind = 'registered'")
    await pool.fetch("update security_events set at = now() - interval '3 hours' where kind = 'login'")
    async with open_desk(pool, redis_url) as desk:
        for since, kinds in (
            ("2h", []),
            ("4h", ["login"]),
            ("30m", []),
            ("2026-01-10T11:59:00Z", ["login", "registered"]),
            ("2026-01-10", ["login", "registered"]),
            ("2026-01-10T12:00:01+00:00", ["login"]),
        ):
            for of_user in ([], ["--user", "alice"]):
                rows = await desk.rows("audit", "--since", since, *of_user)
                # To read those of Alice is an event, too.
                assert [row["kind"] for row in rows if row["kind"] != "events_read"] == kinds, since
        assert "--since must be a time such as" in await desk.is_told_why_not("audit", "--since", "yesterday")


async def test_a_counted_event_that_began_before_the_time_and_went_on_is_shown(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    for _ in range(2):
        await security_events.note(pool, "login_failed", alice.user, Source("user"), is_counted=True)
    await pool.fetch(
        "update security_events set at = now() - interval '50 minutes', last = now() - interval '5 minutes'"
        " where kind = 'login_failed' and user_id = %s",
        (uuid(alice.user),),
    )
    async with open_desk(pool, redis_url) as desk:
        rows = [row for row in await desk.rows("audit", "--since", "10m") if row["kind"] == "login_failed"]
        assert [row["times"] for row in rows] == [2]
