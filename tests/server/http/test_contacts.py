"""Contacts, blocking and participants over HTTP: permissions, changes, and every refusal by name."""

from __future__ import annotations

import secrets
from uuid import UUID

from client.http import Credentials
from store import conversations
from store.postgres.pool import Pool
from tests.people import new_direct, new_group
from tests.server.http_world import Api, both_encodings, open_api, say


def text(user: Credentials | bytes) -> str:
    return str(UUID(bytes=user if isinstance(user, bytes) else user.user))


async def put(api: Api, path: str, **body: object) -> tuple[int, str]:
    return await change(api, "PUT", path, **body)


async def change(api: Api, method: str, path: str, **body: object) -> tuple[int, str]:
    answer = await api.request(method, path, json=body)
    return answer.status, answer.code if answer.status >= 400 else ""


@both_encodings
async def test_contacts_are_put_listed_in_pages_and_deleted(
    pool: Pool, redis_url: str, people: list[Credentials], encoding: str
) -> None:
    alice, bob, carol = people
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(alice.token)
        for other in (bob, carol, bob):
            assert await put(mine, f"/v1/contacts/{text(other)}") == (204, "")
        first = await mine.get("/v1/contacts", limit=1)
        rest = await mine.get("/v1/contacts", limit=1, cursor=first.body["cursor"])
        listed = [*first.body["contacts"], *rest.body["contacts"]]
        assert [each["user"] for each in listed] == sorted([bob.user, carol.user])
        assert {(each["username"], each["is_blocked"], each["display_name"]) for each in listed} == {
            ("bob", False, None),
            ("carol", False, None),
        }
        assert rest.body["cursor"] is None
        assert await change(mine, "DELETE", f"/v1/contacts/{text(bob)}") == (204, "")
        assert [each["user"] for each in (await mine.get("/v1/contacts")).body["contacts"]] == [carol.user]


async def test_blocking_takes_effect_with_its_answer_and_ends_when_it_is_put_back(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, _ = people
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        for is_blocked, unread in ((True, 0), (False, 1)):
            assert await put(mine, f"/v1/contacts/{text(bob)}", is_blocked=is_blocked) == (204, "")
            [contact] = (await mine.get("/v1/contacts")).body["contacts"]
            assert contact["is_blocked"] is is_blocked
            await say(pool, direct, bob.user, secrets.token_bytes(4))
            assert (await mine.get(f"/v1/conversations/{text(direct)}")).body["unread_count"] == unread
        await put(mine, f"/v1/contacts/{text(bob)}", is_blocked=True)
        await change(mine, "DELETE", f"/v1/contacts/{text(bob)}")
        assert [each["is_blocked"] for each in (await mine.get("/v1/contacts")).body["contacts"]] == [True]


async def test_participants_come_go_and_change_by_the_hand_of_an_administrator(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    path = f"/v1/conversations/{text(group)}"
    async with open_api(pool, redis_url) as api:
        admin, participant = api.of(alice.token), api.of(bob.token)

        async def taking_part() -> set[bytes]:
            return {each.user for each in (await conversations.one(pool, alice.user, group)).participants}

        add = {"user": text(carol)}
        assert await change(participant, "POST", f"{path}/participants", **add) == (403, "not_an_administrator")
        assert await change(admin, "POST", f"{path}/participants", **add) == (204, "")
        assert await taking_part() == {alice.user, bob.user, carol.user}
        assert await change(admin, "PATCH", f"{path}/participants/{text(bob)}", role="admin") == (204, "")
        assert await change(participant, "DELETE", f"{path}/participants/{text(carol)}") == (204, "")
        assert await taking_part() == {alice.user, bob.user}
        assert await change(participant, "DELETE", f"{path}/participants/{text(bob)}") == (204, "")
        assert (await participant.get(path)).code == "not_found"
        assert await put(admin, f"{path}/mute", seconds=60) == (204, "")
        assert await put(participant, f"{path}/mute", seconds=60) == (404, "not_found")


async def test_wrong_requests_are_refused_by_name(pool: Pool, redis_url: str, people: list[Credentials]) -> None:
    alice, bob, carol = people
    group, direct = await new_group(pool, alice), await new_direct(pool, alice, bob)
    nobody = text(secrets.token_bytes(16))
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        participants = f"/v1/conversations/{text(group)}/participants"
        assert await put(mine, f"/v1/contacts/{nobody}") == (404, "unknown_user")
        assert await put(mine, f"/v1/contacts/{text(alice)}") == (404, "unknown_user")
        assert await put(mine, f"/v1/contacts/{text(bob)}", is_blocked="yes") == (400, "invalid_body")
        assert (await mine.get("/v1/contacts", cursor="x")).code == "invalid_cursor"
        assert await change(mine, "POST", participants, user=nobody) == (404, "unknown_user")
        assert await change(mine, "POST", participants, user="x") == (400, "invalid_body")
        assert await change(mine, "PATCH", f"{participants}/{text(alice)}", role="king") == (400, "invalid_body")
        assert await change(mine, "DELETE", f"{participants}/{text(carol)}") == (404, "unknown_user")
        of_direct = f"/v1/conversations/{text(direct)}/participants"
        assert await change(mine, "POST", of_direct, user=text(carol)) == (409, "not_a_group")
        assert await change(api.of(carol.token), "POST", participants, user=text(carol)) == (404, "not_found")
        for method, path in (("GET", "/v1/contacts"), ("PUT", f"/v1/contacts/{text(bob)}"), ("POST", participants)):
            assert await change(api, method, path) == (401, "unauthenticated")
