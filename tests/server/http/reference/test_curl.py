"""Each command of the reference is sent to a server as it stands, and gets the answer that the reference shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from uuid import UUID

import httpx
import msgspec
import pytest

from client.http import Credentials
from server.http.passwords import Passwords
from server.http.reference import examples
from server.http.reference.curl import ADDRESS, command
from server.http.reference.examples import EXAMPLES
from server.http.routes import ROUTES
from server.http.routing import Route
from store import accounts, conversations, emails, notifiers
from store.notifiers import WebhookTarget
from store.postgres.pool import Pool
from tests.people import new_device, new_direct, new_group, new_user
from tests.processes import open_cluster
from tests.server.http.test_email import unsubscribe_token_of
from tests.server.http_contract import validator
from tests.server.http_world import say

OPS_TOKEN = "the-token-of-operators"
NAMES = re.compile(r"\b(alice|bob|frank)\b")


async def test_each_command_gets_the_answer_of_its_route(pool: Pool, database_url: str, redis_url: str) -> None:
    hashed = await Passwords().hash(examples.PASSWORD, source="a test")
    async with open_cluster(database_url, redis_url, OPS_TOKEN=OPS_TOKEN) as cluster, httpx.AsyncClient() as http:
        await cluster.start_web()
        for number, route in enumerate(ROUTES):
            found = await scene(pool, number, hashed, is_unsubscribing="unsubscribe" in route.path)
            text = as_found(command(route, EXAMPLES[route.rule]), number, found | {ADDRESS: cluster.http_url})
            check(route, await http.send(parsed(http, text)))


async def scene(pool: Pool, number: int, password_hash: str, *, is_unsubscribing: bool) -> dict[str, str]:
    """The people of the examples and their conversations: each value of an example, and that of the scene."""
    alice = await new_device(pool, await accounts.add_user(pool, f"alice{number}", password_hash))
    bob, carol, dave, erin = [await new_user(pool, f"{name}{number}") for name in ("bob", "carol", "dave", "erin")]
    laptop = await new_device(pool, alice.user)
    direct, group = await new_direct(pool, alice, bob), await new_group(pool, alice, bob, carol)
    asked, _ = await conversations.add_direct(pool, erin.user, alice.user)
    await say(pool, group, alice.user, b"one", b"two")
    added = await notifiers.add(pool, alice.user, WebhookTarget("https://bot.example.org/alo", "whsec_x"))
    ids = {
        examples.ALICE: alice.user,
        examples.BOB: bob.user,
        examples.CAROL: carol.user,
        examples.DAVE: dave.user,
        examples.LAPTOP: laptop.device,
        examples.DIRECT: direct,
        examples.GROUP: group,
        examples.ASKED: asked,
        examples.WEBHOOK: added.notifier,
    }
    texts = {str(id_): str(UUID(bytes=value)) for id_, value in ids.items()}
    token = await mail_token(pool, alice, f"alice{number}@example.org", is_unsubscribing=is_unsubscribing)
    return {**texts, "$TOKEN": alice.token, "$OPS_TOKEN": OPS_TOKEN, examples.MAIL_TOKEN: token}


async def mail_token(pool: Pool, user: Credentials, address: str, *, is_unsubscribing: bool) -> str:
    await emails.put(pool, user.user, address, wants_digest=True, wants_device_notice=True, digest_hour=8, zone="UTC")
    mail = await emails.verification(pool, user.user)
    assert mail is not None
    return await unsubscribe_token_of(pool, user) if is_unsubscribing else mail.token


def as_found(text: str, number: int, found: Mapping[str, str]) -> str:
    """The command with the values of the scene."""
    for shown, value in found.items():
        text = text.replace(shown, value)
    return NAMES.sub(rf"\g<1>{number}", text)


def parsed(http: httpx.AsyncClient, text: str) -> httpx.Request:
    """The request that curl would send. The options are those that the reference uses."""
    program, *words = shlex.split(text.replace("\\\n", ""))
    assert program == "curl"
    method, headers, data, addresses = "", {}, None, []
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                data = words.pop(0)
            case address:
                addresses.append(address)
    [address] = addresses
    return http.build_request(method or "GET", address, headers=headers, content=data)


def check(route: Route, response: httpx.Response) -> None:
    example = EXAMPLES[route.rule]
    assert response.status_code == example.status, (route.rule, response.text)
    if example.status == 204:
        assert response.content == b""
        return
    media_type = response.headers["content-type"].partition(";")[0]
    if media_type == "application/json":
        validator(route.rule, example.status, media_type).validate(response.json())
    else:
        assert response.text.startswith("<!DOCTYPE html>"), route.rule
    if example.answer is not None:
        shown = msgspec.to_builtins(example.answer)
        assert response.json().keys() == shown.keys(), route.rule


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.rule)
def test_a_command_is_one_that_a_shell_reads_line_by_line(route: Route) -> None:
    lines = command(route, EXAMPLES[route.rule]).split("\n")
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert lines[0].startswith("curl ")
    assert all(line.startswith("  -") for line in lines[1:])
