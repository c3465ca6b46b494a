from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from client.errors import HttpRefused, LoginBusy, LoginReplaced
from client.http import Credentials, HttpClient
from client.login import LOCK_TIMEOUT_S, LoginFile
from client.renewal import LoginStore, MemoryLogin, renew
from tests.client.client_world import CREDENTIALS, answer, refusal

RENEWED = replace(CREDENTIALS, token="renewed")


@pytest.fixture(params=["file", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], LoginStore]:
    """Gives the one store of the login as each of its programs opens it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    LoginFile("http://server", "ann").save(CREDENTIALS)
    memory = MemoryLogin(CREDENTIALS)
    return (lambda: LoginFile("http://server", "ann")) if request.param == "file" else lambda: memory


async def never(_: Credentials) -> Credentials:
    raise AssertionError("the server was asked")


async def test_a_renewal_is_stored_and_taken_over_by_the_program_that_waited_for_it(
    stores: Callable[[], LoginStore],
) -> None:
    answered = trio.Event()
    results: list[Credentials] = []

    async def ask(held: Credentials) -> Credentials:
        assert held == CREDENTIALS
        await answered.wait()
        return RENEWED

    async def run(ask: Any) -> None:
        results.append(await renew(stores(), CREDENTIALS, ask))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, ask)
        await wait_all_tasks_blocked()
        nursery.start_soon(run, never)
        await wait_all_tasks_blocked()
        assert results == []
        answered.set()
    assert results == [RENEWED, RENEWED]
    assert stores().load() == RENEWED


async def test_a_cancelled_renewal_leaves_the_token_and_the_lock_free(stores: Callable[[], LoginStore]) -> None:
    async def hang(_: Credentials) -> Credentials:
        await trio.sleep_forever()
        raise AssertionError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew, stores(), CREDENTIALS, hang)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert stores().load() == CREDENTIALS
    async with stores().locked():
        pass


@pytest.mark.parametrize("code", ["token_renewed", "token_reused", "token_expired", "unauthenticated", "unavailable"])
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_refused_renewal_takes_over_a_token_that_was_stored_without_the_lock(
    stores: Callable[[], LoginStore], code: str, is_stored: bool
) -> None:
    async def ask(_: Credentials) -> Credentials:
        if is_stored:
            stores().save(RENEWED)
        raise HttpRefused(409, code, "because")

    if is_stored and code != "unavailable":
        assert await renew(stores(), CREDENTIALS, ask) == RENEWED
    else:
        with pytest.raises(HttpRefused):
            await renew(stores(), CREDENTIALS, ask)


async def test_a_login_of_another_device_is_not_overwritten(stores: Callable[[], LoginStore]) -> None:
    other = Credentials(CREDENTIALS.user, b"e" * 16, "other")
    stores().save(other)
    with pytest.raises(LoginReplaced):
        await renew(stores(), CREDENTIALS, never)
    assert stores().load() == other


async def test_a_lock_that_stays_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A program that the terminal has stopped in a renewal keeps its lock."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    login = LoginFile("http://server", "ann")
    login.save(CREDENTIALS)
    async with login.locked():
        [lock] = login.path.parent.glob("*.lock")
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(LoginBusy, match=f"locked the stored login for {LOCK_TIMEOUT_S:g} s"):
        await renew(login, CREDENTIALS, never)
    os.close(descriptor)
    async with login.locked():
        pass


@pytest.mark.parametrize(("stored", "shown"), [("new", ["old", "new"]), ("old", ["old"])])
async def test_a_refused_request_is_repeated_once_if_the_store_has_another_token(stored: str, shown: list[str]) -> None:
    tokens = iter(["old", stored, "never asked for"])
    authorizations: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        authorizations.append(token)
        if token == "new":
            return answer({"user": b"u" * 16, "username": "bob"})
        return refusal(401, "token_expired")

    async with HttpClient("http://server", token=lambda: next(tokens), transport=httpx.MockTransport(respond)) as http:
        if stored == "new":
            assert (await http.user("bob")).username == "bob"
        else:
            with pytest.raises(HttpRefused):
                await http.user("bob")
    assert authorizations == shown
