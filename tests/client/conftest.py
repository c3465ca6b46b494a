from collections.abc import AsyncIterator

import pytest
import trio

from tests.client.client_world import ClientWorld


@pytest.fixture
async def world(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClientWorld]:
    """A server in memory, at every gateway URL."""
    made = ClientWorld(nursery)
    monkeypatch.setattr("client.websocket.open_stream", made.open_stream)
    yield made
    nursery.cancel_scope.cancel()
