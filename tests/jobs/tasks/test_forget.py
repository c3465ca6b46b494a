"""A worker forgets temp_ids, changes and tokens that are old enough, and only those."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from client.http import Credentials
from jobs.tasks import batches
from jobs.tasks import forget as forget_module
from jobs.tasks.forget import Forgetting
from protocol.limits import CURSOR_DAYS, TEMP_ID_DAYS
from store import keys, revisions, sql, tokens
from store.envelopes import pack
from store.errors import DeviceRevoked, StoreError, TokenExpired, TokenUnknown
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from store.revisions import forget_revisions
from store.tokens import TOKEN_KEPT_DAYS
from tests.jobs.jobs_world import a_job, send_message
from tests.people import new_device
from tests.waiting import wait_until

KEYS = f"""
insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
select gen_random_uuid(),
       (lpad(to_hex((extract(epoch from t) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid,
       gen_random_uuid(), 'x', n, gen_random_uuid(), t
from generate_series(1, 5000) n,
     lateral (
         select now() - make_interval(days => case when n <= 4990 then {TEMP_ID_DAYS + 3} else 1 end, secs => n)
     ) as _ (t)
"""


EVENTS_DAYS = 30


def forgetting(pool: Pool) -> Forgetting:
    return Forgetting(pool, events_days=EVENTS_DAYS)


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


async def test_a_worker_forgets_old_temp_ids_in_batches(
    pool: Pool, start_worker: Callable[..., Awaitable[Any]]
) -> None:
    await pool.fetch(KEYS)
    await start_worker()

    async def are_forgotten() -> bool:
        return await pool.fetch("select count(*) from sends") == [(10,)]

    await wait_until(are_forgotten, "only the young keys are left")


@pytest.mark.usefixtures("_hurried")
async def test_one_run_forgets_all_that_is_old_in_batches(pool: Pool) -> None:
    """With two runs at the same time, as after a lost heartbeat."""
    await pool.fetch(KEYS)
    await pool.fetch(
        "insert into revisions (conversation_id, seq, at)"
        f" values (gen_random_uuid(), 1, now() - interval '{CURSOR_DAYS + 3} days'), (gen_random_uuid(), 2, now())"
    )
    runs: list[list[str]] = [[], []]
    async with trio.open_nursery() as nursery:
        for reports in runs:
            nursery.start_soon(forgetting(pool).forget, a_job("forget", reports=reports))
    assert await pool.fetch("select count(*) from sends") == [(10,)]
    assert await pool.fetch("select seq from revisions") == [(2,)]
    assert max(map(len, runs)) >= 2, "more than one batch"


async def test_run_ends_when_its_time_is_up_and_the_next_one_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_RUN_S", 0.0)
    monkeypatch.setattr(forget_module, "BATCH", 2000)
    await pool.fetch(KEYS)
    left = []
    for _ in range(3):
        await forgetting(pool).forget(a_job("forget"))
        [(count,)] = await pool.fetch("select count(*) from sends")
        left.append(count)
    assert left == [3000, 1000, 10]


async def test_changes_that_no_cursor_asks_for_are_forgotten(pool: Pool) -> None:
    """The messages stay as they are; a cursor that could ask for them has expired by then."""
    await pool.fetch(
        "insert into revisions (conversation_id, seq, at)"
        " select gen_random_uuid(), n, now() - make_interval(days => n) from generate_series(1, 200) n"
    )
    assert await forget_revisions(pool, limit=60) == 60
    assert await forget_revisions(pool, limit=60) == 200 - CURSOR_DAYS - 2 + 1 - 60
    assert await pool.fetch("select max(seq), count(*) from revisions") == [(CURSOR_DAYS + 1, CURSOR_DAYS + 1)]


async def test_security_events_are_kept_for_the_days_of_the_configuration(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)
    monkeypatch.setattr(forget_module, "BATCH", 20)
    await pool.fetch(
        "insert into security_events (kind, user_id, actor, at)"
        " select 'login', gen_random_uuid(), 'user', now() - make_interval(days => n) from generate_series(1, 99) n"
    )
    reports: list[str] = []
    await forgetting(pool).old_security_events(a_job("old_security_events", reports=reports))
    [(kept,)] = await pool.fetch("select count(*) from security_events")
    assert kept == EVENTS_DAYS - 1
    assert len(reports) == 4, "in batches"


OLD = TOKEN_KEPT_DAYS + 1


@pytest.mark.parametrize(
    ("change", "before", "is_forgotten"),
    [
        (f"expires = now() - interval '{OLD} days'", TokenExpired, True),
        (f"revoked = now() - interval '{OLD} days'", DeviceRevoked, True),
        (f"expires = now() - interval '{OLD - 2} days'", TokenExpired, False),
        (f"revoked = now() - interval '{OLD - 2} days'", DeviceRevoked, False),
        # Revoked lately, though it would have expired long ago.
        (f"expires = now() - interval '{OLD} days', revoked = now()", DeviceRevoked, True),
    ],
    ids=["expired", "revoked", "expired lately", "revoked lately", "expired, then revoked"],
)
async def test_token_that_ended_long_ago_is_forgotten_and_its_device_stays(
    pool: Pool, alice: Credentials, change: str, before: type[StoreError], is_forgotten: bool
) -> None:
    """Until then, a client with this token learns why it is void. Afterwards the token is unknown, and no trace of it
    is left."""
    other = await new_device(pool, alice.user, "good")
    await pool.fetch(f"update devices set {change} where id = %s", (uuid(alice.device),))
    with pytest.raises(before):
        await tokens.device_by_token(pool, alice.token)
    await forgetting(pool).expired_tokens(a_job("forget"))
    with pytest.raises(TokenUnknown if is_forgotten else before):
        await tokens.device_by_token(pool, alice.token)
    assert (await tokens.device_by_token(pool, other.token)).device == other.device
    rows = await pool.fetch("select id, token_hash is null, name = '' from devices where name <> 'good'")
    assert rows == [(alice.device, is_forgotten, is_forgotten)]


@pytest.mark.usefixtures("_hurried")
async def test_tokens_are_forgotten_in_batches_that_skip_locked_rows(
    pool: Pool, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device is being revoked: the run does not wait for it, and the next run finds it."""
    monkeypatch.setattr(forget_module, "TOKENS", 2)
    for _ in range(6):
        await new_device(pool, alice.user)
    await pool.fetch(f"update devices set expires = now() - interval '{OLD} days'")
    reports: list[str] = []
    async with connected(pool.url) as connection:
        await connection.query("begin")
        await connection.query("update devices set revoked = now() where id = %s", (uuid(alice.device),))
        with trio.fail_after(5):
            await forgetting(pool).expired_tokens(a_job("forget", reports=reports))
        await connection.query("rollback")
    assert reports == ["2 tokens", "4 tokens", "6 tokens"]
    assert await pool.fetch("select id from devices where token_hash is not null") == [(alice.device,)]
    await forgetting(pool).expired_tokens(a_job("forget"))
    assert await pool.fetch("select 1 from devices where token_hash is not null") == []


BATCHES: dict[str, tuple[str, dict[str, int]]] = {
    "tokens": (sql.load("tokens").forget_tokens, {"days": TOKEN_KEPT_DAYS}),
    "keys of sends": (sql.load("messages").forget_temp_ids, {"days": TEMP_ID_DAYS}),
    "changes": (sql.load("revisions").forget, {"days": CURSOR_DAYS}),
    "security events": (sql.load("security_events").forget, {"days": EVENTS_DAYS}),
}


@pytest.mark.parametrize("name", BATCHES)
async def test_send_goes_through_while_a_batch_is_being_forgotten(
    pool: Pool, alice: Credentials, direct: bytes, name: str
) -> None:
    """By a user whose rows are locked by the batch, to the conversation that they are about."""
    await send_message(pool, direct, alice.user, b"1", b"2")
    await revisions.delete_for_everyone(pool, alice.user, direct, 1)
    await revisions.delete_for_everyone(pool, alice.user, direct, 2)
    await pool.fetch(f"update devices set expires = now() - interval '{OLD} days'")
    await pool.fetch("update sends set created = created - interval '1 year'")
    await pool.fetch("update revisions set at = at - interval '1 year'")
    await pool.fetch("update security_events set at = at - interval '1 year' where kind = 'login'")
    query, parameters = BATCHES[name]
    async with connected(pool.url) as connection:
        await connection.query("begin")
        assert await connection.query(query, {**parameters, "limit": 100}) == [(2,)]
        message = NewMessage(direct, alice.user, bytes(16), "text", b"now", None, None)
        with trio.fail_after(5):
            [outcome] = await send(pool, ParticipantsCache(), [message], lock_wait_s=1)
        assert isinstance(outcome, Committed)
        await connection.query("rollback")


async def test_counts_of_mails_are_forgotten_after_their_window(pool: Pool) -> None:
    await pool.fetch(
        "insert into mailboxes (mailbox_hash, sent_since)"
        " values (sha256('old'), now() - interval '25 hours'), (sha256('new'), now() - interval '23 hours')"
    )
    await forgetting(pool).forget(a_job())
    assert await pool.fetch("select mailbox_hash = sha256('new') from mailboxes") == [(True,)]


@pytest.mark.usefixtures("_hurried")
async def test_envelopes_are_forgotten_after_30_days(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """In as many batches as it takes; the messages stay."""
    await keys.put(pool, bob.device, b"identity")
    packed = pack([(bob.device, b"envelope")])
    batch = [
        NewMessage(direct, alice.user, bytes([n]) * 16, "text", b"", None, None, envelopes=packed) for n in range(4)
    ]
    assert all(isinstance(outcome, Committed) for outcome in await send(pool, ParticipantsCache(), batch))
    await pool.fetch("update envelopes set created = now() - make_interval(days => 28 + seq::int)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forget_module, "ENVELOPES", 1)
        await forgetting(pool).forget(a_job())
    assert await pool.fetch("select seq from envelopes") == [(1,)]
    assert await pool.fetch("select count(*) from messages where has_envelopes") == [(4,)]
