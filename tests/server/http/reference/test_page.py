"""The docs page: it says everything, leads nowhere else, and runs nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser

from server.http.problem_codes import ProblemCode
from server.http.reference import page
from server.http.reference.operations import path_template
from server.http.routes import ROUTES
from store.postgres.pool import Pool
from tests.server.http_contract import DOCUMENT
from tests.server.http_world import open_api

PAGE = page.html(DOCUMENT)


class Parsed(HTMLParser):
    """The tags of a page, with their attributes; and which are open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        """The values of an attribute."""
        return [value for _, attributes in self.tags for key, value in attributes.items() if key == name and value]


PARSED = Parsed(PAGE)


def test_each_tag_is_closed() -> None:
    assert PARSED.open == []


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    assert {tag for tag, _ in PARSED.tags}.isdisjoint({"script", "link", "img", "iframe", "form", "object", "embed"})
    assert not any(name.startswith("on") or name in ("src", "style") for _, each in PARSED.tags for name in each)
    [style] = re.findall(r"<style>(.*)</style>", PAGE, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert page.HEADERS["content-security-policy"].startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_each_link_leads_to_a_place_on_the_page() -> None:
    ids = PARSED.values("id")
    assert len(ids) == len(set(ids))
    places = {f"#{name}" for name in ids}
    assert {target for target in PARSED.values("href") if target not in places} == {"openapi.json"}


def test_the_type_of_each_problem_leads_to_its_paragraph() -> None:
    assert {f"/docs#{name}" for name in PARSED.values("id") if name.startswith("problem-")} == {
        code.type_uri for code in ProblemCode
    }


def test_the_page_has_each_route_with_its_parameters_answers_problems_and_command() -> None:
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', PAGE, re.DOTALL))
    for route in ROUTES:
        operation = DOCUMENT["paths"][path_template(route)][route.method.lower()]
        text = unescape(sections[route.handler.__name__])
        assert f"<code>{route.method} {path_template(route)}</code>" in text
        assert operation["x-codeSamples"][0]["source"] in text
        for parameter in operation["parameters"]:
            assert f"<td><code>{parameter['name']}</code>" in text
        for status, response in operation["responses"].items():
            assert f"<li>{status}: " in text if "$ref" in response else f"<h4>{status} " in text
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="schema-{name}"' in PAGE


async def test_the_page_is_served_with_its_policy(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        response = await api.app.test_client().get("/docs")
        assert response.status_code == 200
        assert {name: response.headers[name] for name in page.HEADERS} == page.HEADERS
        assert "analytics" not in await response.get_data(as_text=True)
