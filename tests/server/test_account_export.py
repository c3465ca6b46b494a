"""An export of an account: the kinds of its data, how it is made, fetched and deleted."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from jobs.tasks.account_deletions import AccountDeletions
from server.http.app import create_app
from store import account_deletions, exports
from store.objects.folder import Folder
from store.objects.interface import usage
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.jobs.export_world import made_export, run_exports
from tests.jobs.jobs_world import a_job
from tests.people import new_user
from tests.server.account_world import PLANTED, USER_COLUMNS, plant
from tests.server.http_world import Api, open_api, open_services
from tests.store.store_world import running

PAGE: Final = Path(__file__).parents[2] / "docs" / "accounts.md"


@pytest.fixture
async def objects(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


def written() -> dict[str, str]:
    """Table -> what the page says of it in an export."""
    _, _, table = PAGE.read_text().partition("## What refers to a user")
    return dict(re.findall(r"^\| `(\w+)` \|[^|]+\|[^|]+\| ([^|]+) \|$", table, re.MULTILINE))


async def test_each_table_that_refers_to_a_user_is_exported_or_left_out_for_a_reason(
    pool: Pool, objects: Folder
) -> None:
    tables = {table for table, _ in await pool.fetch(USER_COLUMNS)}
    said = written()
    assert said.keys() == tables
    planted = await plant(pool)
    kinds = {line["kind"] for line in await made_export(pool, objects, planted.alice.user)}
    named = {kind for text in said.values() if not text.startswith("no: ") for kind in re.findall(r"^`(\w+)`", text)}
    assert kinds == named
    assert all(re.match(r"no: .|`\w+`", text) for text in said.values())


async def test_an_export_has_all_that_the_user_has_chosen_and_no_secret(pool: Pool, objects: Folder) -> None:
    planted = await plant(pool)
    by_kind: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in await made_export(pool, objects, planted.alice.user):
        by_kind[line["kind"]].append(line)
    text = json.dumps(by_kind)
    for each in ("alice", "display", "phone", "mail@example.org", "hook", "client"):
        assert PLANTED + each in text
    [(secret, password_hash)] = await pool.fetch(
        "select n.target ->> 'secret', u.password_hash from notifiers n join users u on u.id = n.user_id"
        " where n.kind = 'webhook' and u.id = %s",
        (uuid(planted.alice.user),),
    )
    assert secret
    assert secret not in text
    assert password_hash not in text
    [account], [picture] = by_kind["account"], [each for each in by_kind["upload"] if each["is_shown"]]
    assert (account["avatar"], picture["is_avatar"]) == (picture["attachment"], True)
    talks = {line["conversation"]: line for line in by_kind["conversation"]}
    mine = (planted.group, planted.left, planted.alone, planted.direct, planted.with_dave, planted.with_erin)
    assert talks.keys() >= {str(UUID(bytes=each)) for each in mine}
    assert not talks[str(UUID(bytes=planted.left))]["is_participant"]


async def test_an_export_has_the_messages_that_the_user_may_read_and_own_ones_of_groups_that_were_left(
    pool: Pool, objects: Folder
) -> None:
    planted = await plant(pool)
    messages: defaultdict[bytes, list[tuple[bytes, bytes | None]]] = defaultdict(list)
    for line in await made_export(pool, objects, planted.alice.user):
        if line["kind"] == "message":
            content = None if line["content"] is None else b64decode(line["content"], validate=True)
            messages[UUID(line["conversation"]).bytes].append((UUID(line["sender"]).bytes, content))
    alice, bob = planted.alice.user, planted.bob.user
    assert messages[planted.group] == [(alice, b"zq-content edited"), (alice, b"zq-content 2"), (bob, b"other")]
    assert messages[planted.left] == [(alice, b"zq-content 1"), (alice, b"zq-content 2")], "not Bob's"
    assert messages[planted.direct] == [(alice, None), (alice, b"zq-content 2"), (bob, b"other")], "one is hidden"


@asynccontextmanager
async def opened(pool: Pool, redis_url: str, objects: Folder) -> AsyncGenerator[Api, None]:
    async with open_services(pool, redis_url, objects=objects) as services:
        yield Api(create_app(services))


async def test_a_user_asks_fetches_and_gets_a_mail_and_others_get_nothing(
    pool: Pool, redis_url: str, objects: Folder
) -> None:
    planted = await plant(pool)
    async with opened(pool, redis_url, objects) as api:
        mine, bobs = api.of(planted.alice.token), api.of(planted.bob.token)
        await pool.fetch("delete from exports")
        asked = await mine.request("POST", "/v1/exports")
        assert asked.status == 202
        [export] = asked.body["exports"]
        path = f"/v1/exports/{export['export']}/parts"
        assert (export["ready"], export["parts"]) == (None, None)
        assert (await mine.get(f"{path}/1")).code == "unknown_export", "it is not ready"
        again = await mine.request("POST", "/v1/exports")
        assert again.code == "too_many_exports"
        await run_exports(pool, objects)
        [export] = (await mine.get("/v1/exports")).body["exports"]
        assert export["expires"] - export["ready"] == exports.KEPT_S * 1_000_000
        response = await api.app.test_client().get(
            f"{path}/1", headers={"Authorization": f"Bearer {planted.alice.token}", "Accept-Encoding": "gzip"}
        )
        assert response.content_type == "application/gzip"
        assert "Content-Encoding" not in response.headers
        assert b'"kind": "account"' in gzip.decompress(await response.get_data())
        for other, part in ((bobs, "1"), (mine, "0"), (mine, str(export["parts"] + 1)), (mine, str(2**70))):
            assert (await other.get(f"{path}/{part}")).code == "unknown_export"
        assert (await bobs.get("/v1/exports")).body == {"exports": []}
        assert (await api.of("no token").get(f"{path}/1")).code == "unauthenticated"
    assert await exports.ready_notice(pool, UUID(export["export"]).bytes) is not None
    assert await pool.fetch("select 1 from jobs where task = 'export_ready'") != []


async def test_without_an_object_store_there_is_no_export(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        assert (await api.of(alice.token).request("POST", "/v1/exports")).code == "export_not_offered"
    assert await pool.fetch("select 1 from exports") == []


async def test_an_export_goes_with_the_account_also_one_that_is_being_made(
    pool: Pool, redis_url: str, objects: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = await plant(pool)
    await made_export(pool, objects, planted.alice.user)
    await pool.fetch("update exports set asked = asked - interval '25 hours'")
    await exports.ask(pool, planted.alice.user)
    note_ready = exports.note_ready

    async def note_later(*arguments: Any, **values: Any) -> bool:
        await account_deletions.close(pool, planted.alice.user, delay_s=0, deletes_messages=False)
        async with running(redis_url) as redis:
            await AccountDeletions(pool, redis, objects).delete_accounts(a_job("delete_accounts"))
        return await note_ready(*arguments, **values)

    monkeypatch.setattr(exports, "note_ready", note_later)
    await run_exports(pool, objects)
    assert (await usage(objects)).objects == 0
    assert await pool.fetch("select 1 from exports") == []
    assert await pool.fetch("select count(deleted) from users") == [(1,)]
