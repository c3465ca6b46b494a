"""The header `Link` of pages: a client that follows it reads the same as one that gives cursors back."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin
from uuid import UUID

import pytest

from client.http import Credentials
from store import conversations
from store.postgres.pool import Pool
from tests.people import make_contacts, new_device, new_group, new_user
from tests.server.http_world import Answer, open_api, say

COUNT = 5


@pytest.fixture
async def group(pool: Pool, people: list[Credentials]) -> bytes:
    """A group with a page of everything: other groups, contacts, participants and messages."""
    alice = people[0]
    for _ in range(COUNT):
        await new_device(pool, alice.user)
    others = [await new_user(pool, f"user{number}") for number in range(COUNT)]
    await make_contacts(pool, alice, *others)
    for _ in range(COUNT):
        await new_group(pool, *people)
    group = await new_group(pool, alice, *others)
    await say(pool, group, alice.user, *(b"%d" % number for number in range(COUNT)))
    return group


def links_of(answer: Answer) -> dict[str, str]:
    """The references of a page, by their relations (RFC 8288)."""
    header = answer.headers.get("Link", "")
    found = {relation: target for target, relation in re.findall(r'<([^>]*)>; rel="(\w+)"(?:, |$)', header)}
    assert len(found) == len(header.split(", ")) - (not header)
    return found


def entries_of(answer: Answer) -> list[Any]:
    [entries] = [value for value in answer.body.values() if isinstance(value, list)]
    return entries


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations",
        "/v1/contacts",
        "/v1/security-events",
        "/v1/conversations/{group}/participants",
        "/v1/conversations/{group}/messages",
        "/v1/conversations/{group}/messages?after_seq=0",
    ],
)
async def test_following_the_links_gives_every_page_once(
    pool: Pool, redis_url: str, alice: Credentials, group: bytes, path: str
) -> None:
    whole_path = path.format(group=UUID(bytes=group))
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        whole = await mine.get(whole_path)
        assert len(entries_of(whole)) >= COUNT
        assert links_of(whole) == {}, "the last page has no next one"
        address: str | None = whole_path + ("&" if "?" in whole_path else "?") + "limit=2"
        found: list[Any] = []
        while address is not None:
            page = await mine.get(address)
            found += entries_of(page)
            assert (page.body["cursor"] is None) == ("next" not in links_of(page))
            following = links_of(page).get("next")
            address = urljoin(address, following) if following is not None else None
        assert found == entries_of(whole)


async def test_a_page_around_a_message_links_in_both_directions(
    pool: Pool, redis_url: str, alice: Credentials, group: bytes
) -> None:
    path = f"/v1/conversations/{UUID(bytes=group)}/messages"
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        page = await mine.get(path, around_seq=3, limit=1)
        links = links_of(page)
        assert links.keys() == {"next", "prev"}
        newer, older = [await mine.get(urljoin(path, links[relation])) for relation in ("next", "prev")]
        assert [message["seq"] for answer in (older, page, newer) for message in entries_of(answer)] == [2, 3, 4]


async def test_the_link_of_requests_leads_to_requests(pool: Pool, redis_url: str, alice: Credentials) -> None:
    for number in range(3):
        stranger = await new_user(pool, f"stranger{number}")
        await conversations.add_direct(pool, stranger.user, alice.user)
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        page = await mine.get("/v1/conversations", requests="true", limit=2)
        rest = await mine.get(urljoin("/v1/conversations", links_of(page)["next"]))
        assert len({each["conversation"] for each in [*entries_of(page), *entries_of(rest)]}) == 3
