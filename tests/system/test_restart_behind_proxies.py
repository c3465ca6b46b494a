"""The recommended proxies in front of several processes of a kind: a rolling restart, and how connections spread."""

from __future__ import annotations

import itertools
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import trio

from client.connection import connect
from client.http import Credentials
from client.session import Session, open_session
from store.postgres.pool import Pool
from tests.haproxy_server import running_haproxy
from tests.nginx_server import running_nginx
from tests.people import make_contacts, new_group, new_user
from tests.processes import open_cluster
from tests.proxies import new_certificate
from tests.scrape import scrape
from tests.system.instances import Instances
from tests.system.many_nodes import ACKED_S, talking
from tests.waiting import let_pass

pytestmark = pytest.mark.ops

PROXIES = {"nginx": running_nginx, "haproxy": running_haproxy}
GRACE_S = 5
"""As in ops/systemd/."""

CLIENTS = 3
TALKERS = 3


@asynccontextmanager
async def behind(
    proxy: str, pool: Pool, redis_url: str, folder: Path, counts: dict[str, int], **settings: str
) -> AsyncGenerator[tuple[Instances, str]]:
    """Processes behind a proxy with TLS, for clients that trust its authority; the proxy's URL."""
    async with open_cluster(pool.url, redis_url, TRUSTED_PROXIES="127.0.0.1", **settings) as cluster:
        instances = Instances(cluster)
        async with trio.open_nursery() as nursery:
            for kind, count in counts.items():
                for instance in range(1, count + 1):
                    nursery.start_soon(instances.start, kind, instance)
        servers = {
            kind: [instances.address(kind, instance) for instance in range(1, count + 1)]
            for kind, count in counts.items()
        }
        certificate = new_certificate(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate.authority))
            async with PROXIES[proxy](folder, servers, certificate=certificate) as url:
                yield instances, url


class HttpLoad:
    """Clients with HTTP/2 that read, change and make things, without ever repeating a request.

    :ivar outcomes: (request, status) -> number.
    :ivar made: groups whose creation was answered.
    """

    def __init__(self, url: str, user: Credentials, other: Credentials, conversation: bytes) -> None:
        self._url = url
        self._other = str(UUID(bytes=other.user))
        self._headers = {"Authorization": f"Bearer {user.token}"}
        self._conversation = UUID(bytes=conversation)
        self.outcomes: Counter[tuple[str, int | str]] = Counter()
        self.made = 0

    async def run(self) -> None:
        context = ssl.create_default_context()  # trusts SSL_CERT_FILE
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(self._client, context, number)

    async def _client(self, context: ssl.SSLContext, number: int) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, http2=True, verify=context, timeout=20, headers=self._headers
        ) as client:
            assert (await client.get("/readyz")).http_version == "HTTP/2"
            for turn in itertools.count(number):
                await self._request(client, turn)
                await let_pass(0.1, why="the pace of a client")

    async def _request(self, client: httpx.AsyncClient, turn: int) -> None:
        match turn % 4:
            case 0:
                what, sent = "list", client.get("/v1/conversations?limit=5")
            case 1:
                body = {"kind": "group", "name": f"group {turn}", "participants": [self._other]}
                what, sent = "make", client.post("/v1/conversations", json=body)
            case 2:
                what, sent = "history", client.get(f"/v1/conversations/{self._conversation}/messages")
            case _:
                body = {"from_minute": 1, "until_minute": 2, "zone": "UTC"}
                what, sent = "set", client.put("/v1/quiet-hours", json=body)
        with trio.CancelScope(shield=True):  # the end of the load cuts no request
            try:
                status: int | str = (await sent).status_code
            except httpx.HTTPError as error:
                status = repr(error)
        self.outcomes[what, status] += 1
        self.made += (what, status) == ("make", 201)

    @property
    def failures(self) -> dict[tuple[str, int | str], int]:
        good = {("list", 200), ("make", 201), ("history", 200), ("set", 204)}
        return {outcome: count for outcome, count in self.outcomes.items() if outcome not in good}


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_rolling_restart_fails_no_request_and_no_send(
    proxy: str, pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Two `socket` and two `web` get SIGTERM one after the other, while users chat and clients send requests over HTTP.

    POST is never repeated: each group that was answered is there once, and no other.
    """
    maker, other = await new_user(pool, "maker"), await new_user(pool, "other")
    await make_contacts(pool, maker, other)
    people = [await new_user(pool, f"user{number}") for number in range(TALKERS)]
    group = await new_group(pool, *people, maker)
    counts = {"web": 2, "socket": 2}
    async with behind(proxy, pool, redis_url, tmp_path, counts, READY_GRACE_S=str(GRACE_S)) as (instances, url):
        load = HttpLoad(url, maker, other, group)
        async with AsyncExitStack() as stack:
            sessions = [await stack.enter_async_context(_session(url, person)) for person in people]
            with trio.fail_after(ACKED_S):
                for session in sessions:
                    await session.wait_caught_up()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                # Its end waits for the acks of what was sent, which the end of the load must not cut.
                async with talking(group, sessions, pace_s=0.2) as senders:
                    for kind, instance in (("socket", 1), ("socket", 2), ("web", 1), ("web", 2)):
                        await instances.restart(kind, instance, grace_s=GRACE_S)
                        await senders.wait_acks(3)
                        assert load.failures == {}, f"after {kind} {instance}"
                nursery.cancel_scope.cancel()
            await senders.verify(pool, sessions)
    assert load.failures == {}
    assert load.outcomes.total() > 200
    [(stored,)] = await pool.fetch("select count(*) from conversations where starts_with(name, 'group ')")
    assert stored == load.made


def _session(url: str, person: Credentials) -> AbstractAsyncContextManager[Session]:
    return open_session([url.replace("https:", "wss:")], person)


@pytest.mark.parametrize("proxy", PROXIES)
async def test_connections_spread_evenly_over_the_processes_of_a_kind(
    proxy: str, pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Over four `socket`, by the least connections; those that go later do not disturb it."""
    people = [await new_user(pool, f"user{number}") for number in range(40)]
    async with behind(proxy, pool, redis_url, tmp_path, {"web": 1, "socket": 4}) as (instances, url):
        socket_url = url.replace("https:", "wss:")
        async with AsyncExitStack() as stack:
            for person in people:
                await stack.enter_async_context(connect(socket_url, person.token))
            assert await _held(instances) == [10, 10, 10, 10]


async def _held(instances: Instances) -> Sequence[int]:
    pages = [await scrape(instances.operator_port("socket", instance)) for instance in (1, 2, 3, 4)]
    return [int(page.value("alo_connections_welcomed")) for page in pages]


HANDSHAKE = (
    b"GET /v1/socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Protocol: alo.v1\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@asynccontextmanager
async def _opened(url: str, source: str) -> AsyncGenerator[bytes]:
    """A WebSocket from an address of this machine; the first line of the answer."""
    port = urlsplit(url).port
    assert port is not None
    stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
    tls = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="localhost", https_compatible=True)
    async with tls:
        await tls.send_all(HANDSHAKE)
        yield (await tls.receive_some(4096)).partition(b"\r\n")[0]
        await trio.aclose_forcefully(tls)


@pytest.mark.parametrize("proxy", PROXIES)
async def test_the_gateway_counts_connections_by_the_address_of_the_client_and_not_of_the_proxy(
    proxy: str, pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """nginx tells it by X-Forwarded-For, HAProxy by the PROXY protocol."""
    counts = {"web": 1, "socket": 1}
    async with (
        behind(proxy, pool, redis_url, tmp_path, counts, MAX_ADDRESS_CONNECTIONS="2") as (instances, url),
        _opened(url, "127.0.0.2") as first,
        _opened(url, "127.0.0.2") as second,
        _opened(url, "127.0.0.2") as third,
        _opened(url, "127.0.0.3") as of_another,
    ):
        statuses = [int(line.split()[1]) for line in (first, second, third, of_another)]
        assert statuses == [101, 101, 429, 101]
        page = await scrape(instances.operator_port("socket", 1))
        assert page.value("alo_connections_refused_total") == 1
