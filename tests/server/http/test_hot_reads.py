"""Reads whose admission reads the answer too: they are refused as all other reads, and take one round trip."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from client.http import Credentials
from server.http.routes import ROUTES
from store.devices import revoke_device
from store.postgres.pool import Pool
from tests.people import new_device, new_direct, new_user
from tests.server.http_world import both_encodings, open_api, say

HOT = sorted(route.rule for route in ROUTES if route.admit is not None)
"""Routes with an admission of their own."""


@pytest.mark.parametrize("rule", HOT)
@both_encodings
async def test_each_refuses_tokens_and_strangers_as_all_reads_do(
    pool: Pool, redis_url: str, alice: Credentials, rule: str, encoding: str
) -> None:
    conversation = UUID(bytes=await new_direct(pool, alice, await new_user(pool, "bob")))
    path = rule.partition(" ")[2]
    own, unknown = [path.replace("<uuid:conversation>", str(each)) for each in (conversation, uuid4())]
    revoked = await new_device(pool, alice.user)
    await revoke_device(pool, alice.user, revoked.device)
    expired, stranger = await new_device(pool, alice.user, lifetime_s=-1), await new_user(pool, "carol")
    async with open_api(pool, redis_url, encoding) as api:
        assert (await api.of(alice.token).get(own)).status == 200
        for token, code in (
            ("", "unauthenticated"),
            ("x", "unauthenticated"),
            (revoked.token, "device_revoked"),
            (expired.token, "token_expired"),
        ):
            for wanted in (own, unknown, f"{own}?limit=none", f"{own}?cursor=x"):
                answer = await api.of(token).get(wanted)
                assert (answer.status, answer.code) == (401, code), (wanted, token)
        assert (await api.of(alice.token).get(f"{own}?limit=none")).code == "invalid_query"
        if own != unknown:
            for token, wanted in ((stranger.token, own), (alice.token, unknown)):
                answer = await api.of(token).get(wanted)
                assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("rule", HOT)
async def test_each_takes_one_round_trip_with_the_token_once_the_answer_is_cached(
    pool: Pool, redis_url: str, alice: Credentials, rule: str
) -> None:
    conversation = await new_direct(pool, alice, await new_user(pool, "bob"))
    await say(pool, conversation, alice.user, b"hi")
    path = rule.partition(" ")[2].replace("<uuid:conversation>", str(UUID(bytes=conversation)))
    async with open_api(pool, redis_url) as api:
        before = await api.of(alice.token).get(path)
        reads = pool.reads.statistics().items
        assert (await api.of(alice.token).get(path)).data == before.data
        assert pool.reads.statistics().items == reads + 1
