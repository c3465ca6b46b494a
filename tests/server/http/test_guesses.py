"""Guesses of passwords: accounts rest after wrong ones from any address; the owner's devices are not held up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
import trio
from argon2.exceptions import VerifyMismatchError

from client.http import Credentials
from server.http import guesses, passwords
from server.http.app import create_app
from server.http.guesses import RESTS, Guesses, TooManyGuesses, name_key
from server.http.limits import RateLimited
from server.http.turns import Turns
from store import accounts
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.people import new_device
from tests.server.http_world import Answer, Api, open_services

RIGHT = "the right password"


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were checked. No check takes long, and the first rest outlasts a test."""
    seen: list[str] = []

    class Hasher:
        def verify(self, password_hash: str, password: str) -> bool:
            seen.append(password)
            if password_hash == passwords.HASH_OF_NO_USER or password != RIGHT:
                raise VerifyMismatchError
            return True

    monkeypatch.setattr(passwords, "HASHER", Hasher())
    monkeypatch.setattr(guesses, "RESTS", RESTS._replace(first_s=600.0))
    return seen


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    return await new_device(pool, await accounts.add_user(pool, "alice", "a hash"))


@pytest.fixture
async def api(pool: Pool, redis_url: str) -> AsyncGenerator[Api, None]:
    async with open_services(pool, redis_url) as services:
        yield Api(create_app(services))


async def guess(api: Api, password: str, *, username: str = "alice", address: str = "192.0.2.1") -> Answer:
    body = b'{"username": "%b", "password": "%b", "name": "a phone"}' % (username.encode(), password.encode())
    headers = {"Content-Type": "application/json"}
    return await api.request("POST", "/v1/devices", data=body, headers=headers, scope_base={"client": (address, 1)})


async def guess_wrong(api: Api, times: int, username: str = "alice") -> list[Answer]:
    """Guess at the same time, each guess from an address of its own."""
    answers: list[Answer] = []

    async def one(number: int) -> None:
        answers.append(await guess(api, f"wrong {number}", username=username, address=f"198.51.100.{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(times):
            nursery.start_soon(one, number)
    return answers


@pytest.mark.parametrize("username", ["alice", "nobody"])
async def test_five_of_60_guesses_at_the_same_time_from_60_addresses_are_checked(
    api: Api, alice: Credentials, checked: list[str], username: str
) -> None:
    """A name that no user has gets the same answers: they tell nothing of who exists."""
    answers = await guess_wrong(api, 60, username)
    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 55
    assert len(checked) == 5
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.code == "too_many_guesses"
    assert 590 <= int(refused.headers["Retry-After"]) <= 600


@pytest.mark.parametrize("username", ["alice", "nobody"])
async def test_spellings_of_a_name_share_their_guesses(api: Api, alice: Credentials, username: str) -> None:
    """In capitals and in full width, whether a user has the name or not."""
    wide = "".join(chr(ord(character) - 0x20 + 0xFF00) for character in username)
    await guess_wrong(api, 5, username)
    for spelling in (username.upper(), username.title(), wide):
        assert (await guess(api, "wrong", username=spelling)).code == "too_many_guesses"


async def test_while_an_account_rests_a_right_password_gets_the_answer_of_a_wrong_one(
    api: Api, alice: Credentials, checked: list[str]
) -> None:
    await guess_wrong(api, 5)
    checked.clear()
    answers = [await guess(api, password) for password in (RIGHT, "wrong")]
    assert [answer.code for answer in answers] == ["too_many_guesses"] * 2
    assert answers[0].body["detail"] == answers[1].body["detail"]
    assert checked == []
    assert (await guess(api, "wrong", username="bob")).code == "wrong_credentials", "other accounts do not rest"


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ("expires = expires", True),
        ("expires = now() - interval '20 days'", True),
        ("revoked = now()", False),
        ("user_id = (select id from users where username = 'bob')", False),
    ],
    ids=["good", "expired", "revoked", "of another user"],
)
async def test_a_known_device_of_the_owner_is_not_held_up(
    pool: Pool, api: Api, alice: Credentials, change: str, passes: bool
) -> None:
    await accounts.add_user(pool, "bob", "a hash")
    await pool.fetch(f"update devices set {change} where id = %s", (UUID(bytes=alice.device),))
    await guess_wrong(api, 5)
    assert (await guess(api.of(alice.token), RIGHT)).status == (201 if passes else 429)
    assert (await guess(api, RIGHT)).status == 429, "the account still rests for all others"


async def test_a_known_device_has_five_guesses_of_its_own(api: Api, alice: Credentials, checked: list[str]) -> None:
    """So the thief of a phone gets no more guesses than others."""
    stolen = api.of(alice.token)
    answers = [await guess(stolen, "wrong") for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert (await guess(api, RIGHT)).status == 201, "they do not count for the account"
    confirmation = await stolen.post("/v1/confirmations", {"password": RIGHT})
    assert confirmation.code == "too_many_guesses", "they count for confirmations"


async def test_a_right_password_ends_the_count(api: Api, alice: Credentials) -> None:
    for _ in range(3):
        assert [answer.status for answer in await guess_wrong(api, 4)] == [401] * 4
        assert (await guess(api, RIGHT)).status == 201


async def test_guesses_that_wait_for_a_turn_and_are_refused_do_not_count(
    api: Api, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def refuse(*_: object) -> AsyncGenerator[None, None]:
        raise RateLimited(1.0)
        yield

    with monkeypatch.context() as full:
        full.setattr(Turns, "turn", refuse)
        assert [answer.code for answer in await guess_wrong(api, 10)] == ["rate_limited"] * 10
    assert (await guess(api, RIGHT)).status == 201


def test_rests_double_from_a_second_to_a_quarter_of_an_hour() -> None:
    rests = [RESTS.after(number) for number in range(1, 18)]
    assert rests == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


async def test_a_process_goes_on_with_what_it_knows_while_redis_is_away(redis_url: str) -> None:
    redis = Redis(redis_url)
    some = Guesses(redis)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.wait_connected()
        for _ in range(3):
            await some.admit(name_key("alice"))
        nursery.cancel_scope.cancel()
    for _ in range(2):
        await some.admit(name_key("alice"))
    with pytest.raises(TooManyGuesses) as refused:
        await some.admit(name_key("alice"))
    assert 590 < refused.value.wait_s <= 600
    await some.admit(name_key("bob"))
