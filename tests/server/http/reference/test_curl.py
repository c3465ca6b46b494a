"""Each command of the reference is sent to a server as it stands, and gets the answer that the reference shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import httpx
import msgspec

from server.http.passwords import Passwords
from server.http.reference import examples
from server.http.reference.curl import ADDRESS, command
from server.http.reference.examples import EXAMPLES
from server.http.routes import ROUTES
from server.http.routing import Route
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.processes import open_cluster
from tests.rows import each_row
from tests.server.http.reference.scene import OPS_TOKEN, as_found, purpose_of, scene
from tests.server.http_contract import validator


async def test_each_command_gets_the_answer_of_its_route(
    pool: Pool, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    hashed = await Passwords().hash(examples.PASSWORD, source="a test")
    async with (
        open_cluster(
            database_url, redis_url, OPS_TOKEN=OPS_TOKEN, WEB_CLIENT="1", OBJECT_STORE_URL=tmp_path.as_uri()
        ) as cluster,
        httpx.AsyncClient() as http,
    ):
        await cluster.start_web()
        for number, route in enumerate(ROUTES):
            found = await scene(pool, number, hashed, purpose=purpose_of(route.rule), objects=Folder(tmp_path))
            text = as_found(command(route, EXAMPLES[route.rule]), number, found | {ADDRESS: cluster.http_url})
            check(route, await http.send(parsed(http, text)))


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
    elif media_type == "application/gzip":
        assert response.content == b"part"
    elif media_type == "application/problem+json":
        assert example.status >= 400
    elif media_type != "text/html":
        assert route.is_operators_page or route.is_web_client
    else:
        assert response.text.startswith("<!DOCTYPE html>"), route.rule
    if example.answer is not None:
        shown = msgspec.to_builtins(example.answer)
        assert response.json().keys() == shown.keys(), route.rule


@each_row("route", ROUTES, ids=lambda route: route.rule)
def test_a_command_is_one_that_a_shell_reads_line_by_line(route: Route) -> None:
    lines = command(route, EXAMPLES[route.rule]).split("\n")
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert lines[0].startswith("curl ")
    assert all(line.startswith("  -") for line in lines[1:])
