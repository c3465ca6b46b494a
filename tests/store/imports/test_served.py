"""The new server serves what an import has taken: users log in with their old passwords, list, read and count."""

from __future__ import annotations

from uuid import UUID

import bcrypt

from store.postgres.pool import Pool
from tests.planted import PLANTED
from tests.server.http_world import open_api
from tests.store.imports.old_world import OldWorld, at, imported, named

PASSWORD = f"{PLANTED} of the old service"


async def test_a_user_finds_everything_where_it_was(
    old: OldWorld, database_url: str, pool: Pool, redis_url: str
) -> None:
    old_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode()
    old.user("Ann", login={"encrypted_password": old_hash})
    old.user("Ben", display_name="Ben B.")
    old.conversation("direct", "Ann", "Ben")
    old.conversation("group", "Ben", "Ann", type="group", name="All of us")
    for n in range(1, 6):
        old.message(f"m{n}", "direct", "Ben", n, deleted_at=at(9) if n == 5 else None)
    old.message("own", "group", "Ann", 7)
    old.message("news", "group", "Ben", 8)
    old.run(
        "update conversation_participants set last_read_at = %s where user_id = %s and conversation_id = %s",
        *(at(2), named("Ann"), named("direct")),
    )
    await imported(old, database_url)
    async with open_api(pool, redis_url) as api:
        answer = await api.post("/v1/devices", {"username": "Ann", "password": PASSWORD, "name": "d"})
        assert answer.status == 201
        assert answer.body["user"] == named("Ann").bytes
        api.token = answer.body["token"]
        listed = (await api.get("/v1/conversations")).body["conversations"]
        shown = {
            UUID(bytes=each["conversation"]): (each["kind"], each["unread_count"], each["last_seq"]) for each in listed
        }
        assert shown == {named("group"): ("group", 1, 2), named("direct"): ("direct", 2, 5)}
        history = (await api.get(f"/v1/conversations/{named('direct')}/messages")).body["messages"]
        by_seq = {each["seq"]: each for each in history}
        assert [UUID(bytes=by_seq[n]["message"]) for n in range(1, 6)] == [named(f"m{n}") for n in range(1, 6)]
        assert by_seq[1]["content"] == b"content of m1"
        assert by_seq[1]["nonce"] == b"bm9uY2U="
        assert by_seq[1]["created"] == int(at(1).timestamp() * 1e6)
        assert by_seq[5].get("content") is None
