"""Programs that share one stored login renew its token in turn, and the server takes none of them for a thief.

The overlap of tokens is 0 s here: a token ends in the moment in which the one after it is shown.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from time import time

import pytest
from msgspec.structs import replace

from client.cli.parser import make_parser
from client.http import Credentials
from client.login import LoginFile
from client.session import open_session
from store.postgres.pool import Pool
from store.security_events import events_of
from store.tokens import device_by_token
from tests.server.http.socket_world import open_server
from tests.server.node_world import open_node
from tests.waiting import wait_until

RENEWALS = 4


class ObservedLogin(LoginFile):
    """The stored login as one program sees it.

    :ivar tokens: each token that this program has loaded or saved, in order.
    :ivar saves: count of the renewals by this program.
    """

    def __init__(self, server: str, username: str) -> None:
        super().__init__(server, username)
        self.tokens: list[str] = []
        self.saves = 0

    def load(self) -> Credentials | None:
        credentials = super().load()
        if credentials is not None:
            self._observe(credentials.token)
        return credentials

    def save(self, credentials: Credentials) -> None:
        super().save(credentials)
        self.saves += 1
        self._observe(credentials.token)

    def _observe(self, token: str) -> None:
        if token not in self.tokens:
            self.tokens.append(token)


@pytest.fixture(autouse=True)
def short_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("store.tokens.OVERLAP_S", 0.0)
    monkeypatch.setattr("client.link.RENEW_S", 0.2)


async def assert_no_alarm(pool: Pool, user: bytes, login: LoginFile) -> None:
    assert [event.kind for event in await events_of(pool, user, limit=10) if event.kind == "token_reused"] == []
    await device_by_token(pool, login.token() or "")


async def test_two_chats_of_one_login_renew_its_token_in_turn(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_node(pool.url, redis_url) as node, AsyncExitStack() as stack:
        logins = [ObservedLogin(node.url, "alice") for _ in range(2)]
        logins[0].save(replace(alice, renewed=time()))
        sessions = [await stack.enter_async_context(open_session([node.url], alice, login=login)) for login in logins]
        await wait_until(lambda: all(len(login.tokens) > RENEWALS for login in logins), "both have had several tokens")
        assert all(session.is_online for session in sessions)
        await assert_no_alarm(pool, alice.user, logins[0])


async def test_a_command_renews_the_token_beside_a_chat(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.cli.logins.RENEW_S", 0.0)
    async with open_node(pool.url, redis_url) as node, open_server(pool, redis_url) as server:
        url = f"http://127.0.0.1:{server.port}"
        monkeypatch.setenv("ALO_HTTP_URL", url)
        login = ObservedLogin(url, "alice")
        login.save(replace(alice, renewed=time()))
        async with open_session([node.url], alice, login=login) as session:
            await session.wait_online()
            for _ in range(RENEWALS):
                stored, saves = login.token(), login.saves
                arguments = make_parser().parse_args(["list", "alice"])
                await arguments.run(arguments)
                assert login.token() != stored
                await wait_until(lambda saves=saves: login.saves > saves, "the chat renews the token of the command")
            assert session.is_online
            await assert_no_alarm(pool, alice.user, login)
