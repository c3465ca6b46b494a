"""Queries: each route reads the parameters that it declares, strictly, and refuses all others."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from server.http.queries import (
    MAX_KEPT_CHARACTERS,
    DaysQuery,
    HistoryQuery,
    InvalidQuery,
    ListQuery,
    NoQuery,
    PageQuery,
    query_reader,
)
from server.http.routes import ROUTES
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import checked_rows, each_row
from tests.sentences import fault_of
from tests.server.http.test_routes import filled
from tests.server.http_world import open_api

READERS = {struct: query_reader(struct) for struct in (NoQuery, PageQuery, ListQuery, HistoryQuery, DaysQuery)}


@each_row(
    ("text", "query"),
    [
        ("", NoQuery()),
        ("", PageQuery(50, None)),
        ("limit=7", PageQuery(7)),
        ("limit=007&cursor=a%2Bb+c", PageQuery(7, "a+b c")),
        ("cursor=", PageQuery(cursor="")),
        ("requests=true", ListQuery(requests=True)),
        ("requests=false&limit=100", ListQuery(100)),
        ("after_seq=0", HistoryQuery(after_seq=0)),
        (f"around_seq={2**63 - 2}", HistoryQuery(around_seq=2**63 - 2)),
        ("until=2026-02-01&from=2026-01-31", DaysQuery(date(2026, 1, 31), date(2026, 2, 1))),
    ],
)
def test_a_query_is_read_as_its_struct(text: str, query: Struct) -> None:
    assert READERS[type(query)](text) == query
    assert READERS[type(query)](text) == query, "a query that is kept is the same"


@each_row(
    ("struct", "text", "said"),
    [
        (NoQuery, "a=1", "a parameter is unknown: this route has no parameters"),
        (PageQuery, "Limit=1", "a parameter is unknown: this route has the parameters `limit` and `cursor`"),
        (PageQuery, "limit=1&limit=1", "limit must be given once"),
        (PageQuery, "limit", "limit must be a number from 1 to 100"),
        (PageQuery, "limit=+5", "limit must be a number from 1 to 100"),
        (PageQuery, "limit=%D9%A1", "limit must be a number from 1 to 100"),
        (PageQuery, f"limit={'9' * 5000}", "limit must be a number from 1 to 100"),
        (PageQuery, "cursor=%ff", "a parameter must be UTF-8"),
        (PageQuery, "&".join(["a=1"] * 17), "a query has at most 16 parameters"),
        (ListQuery, "requests=1", "requests must be true or false"),
        (HistoryQuery, f"after_seq={2**63}", f"after_seq must be a number from 0 to {2**63 - 1}"),
        (HistoryQuery, "around_seq=1&after_seq=1", "give around_seq without cursor and after_seq"),
        (HistoryQuery, "cursor=x&after_seq=1", "give cursor or after_seq, not both"),
        (DaysQuery, "from=2026-01-31", "until must be a day, such as 2026-01-31"),
    ],
)
def test_a_wrong_query_is_refused_by_a_sentence_that_says_what_is_allowed(
    struct: type[Struct], text: str, said: str
) -> None:
    with pytest.raises(InvalidQuery) as invalid:
        READERS[struct](text)
    assert str(invalid.value) == said
    assert fault_of(said) is None


@given(st.sampled_from(list(READERS)), st.text(st.characters(max_codepoint=255), max_size=MAX_KEPT_CHARACTERS + 9))
def test_any_text_is_a_query_or_an_invalid_one(struct: type[Struct], text: str) -> None:
    with suppress(InvalidQuery):
        assert isinstance(READERS[struct](text), struct)


def test_a_parameter_of_a_type_without_a_reader_is_found_when_the_process_starts() -> None:
    class Wrong(Struct):
        share: float
        unbounded: Annotated[int, Meta(ge=0)]

    with pytest.raises(TypeError, match="share"):
        query_reader(Wrong)


async def test_a_route_refuses_parameters_that_it_does_not_have(pool: Pool, redis_url: str) -> None:
    """A typing error must not get a different answer than its writer meant. A stranger does not learn of it."""
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        with checked_rows() as rows:
            for route in [route for route in ROUTES if route.is_for_devices]:
                with rows.row(route.rule):
                    path = filled(route.path) + "?limt=5"
                    answer = await api.of(alice.token).request(route.method, path)
                    assert (answer.status, answer.code) == (400, "invalid_query")
                    assert (await api.request(route.method, path)).code == "unauthenticated"


async def test_pages_for_browsers_ignore_what_mail_programs_add(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        client = api.app.test_client()
        for route in ROUTES:
            if route.query is None and not route.needs_operators and not route.is_web_client:
                response = await client.open(filled(route.path) + "?utm_source=mail", method=route.method)
                assert response.status_code in route.statuses
