"""The announcement of a change: the nodes look for a change that a process cannot announce."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from server.delivery.broadcast import Broadcast
from server.delivery.fanout import Fanout
from server.http.announcements import Announcements
from store import conversations
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis


async def test_the_nodes_look_for_a_change_since_its_commit_however_long_its_announcement_took(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up_in_vain(*_: Any, **__: Any) -> Any:
        mock_clock.jump(20)
        raise Unavailable("Postgres", "", "gone for a moment")

    monkeypatch.setattr(conversations, "seen_by", look_up_in_vain)
    fanout = Fanout(Redis("redis://127.0.0.1:1/0"), b"node-aaa", lambda: False)
    with closing(Pool("postgresql://127.0.0.1:1/alo", 1)) as pool:
        committed_at = trio.current_time()
        with pytest.raises(Unavailable):
            await Announcements(pool, Broadcast(fanout)).conversation_made(bytes(16), [b"a" * 16])
    assert fanout.missed_since == committed_at
