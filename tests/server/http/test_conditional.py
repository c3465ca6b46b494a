"""Entity tags: the pages that share one, and whether a client holds the current page."""

from __future__ import annotations

import pytest
import trio.testing

from server.http import conditional
from server.http.compression import CODINGS
from server.http.conditional import HISTORY_KEPT_S, EntityTags, held_tag
from store.cli.restored import begin_history
from store.errors import Unavailable
from store.postgres.driver import connected
from store.postgres.pool import Pool
from tests.rows import each_row


@each_row(
    ("if_none_match", "held"),
    [
        ("", None),
        ('"abc"', "abc"),
        ('W/"abc"', "abc"),
        ('"abd"', None),
        ('"abc-br"', "abc-br"),
        ('W/"abc-zstd"', "abc-zstd"),
        ('"abc-deflate"', None),
        ('"abc-br-br"', None),
        ('"x", "abc-gzip" ,W/"y"', "abc-gzip"),
        ('"x,\\"abc"', None),
        ('"", "abc"', "abc"),
        ("*", "abc"),
        (" * ", "abc"),
        ('"*"', None),
        ("abc", None),
        ("'abc'", None),
    ],
)
def test_a_client_holds_the_current_page_if_it_names_its_tag_in_any_coding(if_none_match: str, held: str) -> None:
    assert held_tag(if_none_match, "abc") == held


def test_a_page_without_a_tag_is_never_held() -> None:
    assert [held_tag(header, None) for header in ("", "*", '"abc"', '"None"')] == [None] * 4


def test_the_coded_tags_are_those_of_all_codings() -> None:
    assert {held_tag(f'"abc-{coding}"', "abc") for coding in CODINGS} == {f"abc-{coding}" for coding in CODINGS}


async def test_equal_states_have_equal_tags_in_every_process(pool: Pool) -> None:
    tags, others = EntityTags(pool), EntityTags(pool)
    history = await tags.history()
    tag = tags.of(history, "list", b"user", 50, (1, 2))
    assert tag is not None
    assert tag.isalnum()
    assert tag == others.of(await others.history(), "list", b"user", 50, (1, 2))
    assert (
        len({tags.of(history, *state) for state in (("list", 1), ("list", "1"), ("list", b"1"), ("list", (1,)))}) == 4
    )


async def test_another_release_has_other_tags(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = EntityTags(pool)
    history = await tags.history()
    before = tags.of(history, "list")
    monkeypatch.setattr(conditional, "release_digest", lambda: "another")
    assert tags.of(history, "list") != before


async def test_another_history_has_other_tags_within_half_a_minute(
    pool: Pool, mock_clock: trio.testing.MockClock
) -> None:
    """The numbers of transactions that versions consist of may belong to other commits there."""
    tags = EntityTags(pool)
    before = tags.of(await tags.history(), "list")
    await begin_history(pool.url)
    mock_clock.jump(HISTORY_KEPT_S - 1)
    assert tags.of(await tags.history(), "list") == before
    mock_clock.jump(2)
    assert tags.of(await tags.history(), "list") not in (before, None)


async def test_a_version_that_was_read_over_a_new_connection_has_no_tag(pool: Pool) -> None:
    """Between the history and the version Postgres may have been replaced."""
    tags = EntityTags(pool)
    history = await tags.history()
    async with connected(pool.url) as elsewhere:
        await elsewhere.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database()"
        )
    for _ in range(2):
        try:
            await pool.fetch("select 1")
        except Unavailable:
            continue
    assert tags.of(history, "list") is None
    assert tags.of(await tags.history(), "list") is not None
