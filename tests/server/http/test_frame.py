"""The frame around handlers: the order of its steps, and the announcements of a write of several parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import trio

from server.http.frame import framed
from server.http.limits import Limits
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Access, Announcement, AnyAnswer, Changed, Request, Route
from store.errors import Unavailable
from store.redis.client import Redis

_T = TypeVar("_T")
steps: list[str] = []
"""The steps of the frame, in order."""


@pytest.fixture(autouse=True)
def _no_steps() -> None:
    steps.clear()


async def read_body(type_: type[_T]) -> _T:
    steps.append("body")
    return type_()


async def announce(_: Any, name: str) -> None:
    await trio.lowlevel.checkpoint()
    steps.append(f"announce {name}")


async def call(handler: Any, **details: Any) -> AnyAnswer:
    services: Any = SimpleNamespace(announcements=None, limits=Limits(Redis("redis://127.0.0.1:1")))
    route = Route("PUT", "/v1/things", Access.OPEN, handler, request_class=RequestClass.OPEN, **details)
    return await framed(route, read_body)(Request(services, "127.0.0.1", "json", {}, "", None, None), {})


async def write(_: Request[Any]) -> Changed:
    """A write of two parts, as that of a contact (a device that counts the changes needs every number)."""
    steps.append("first write")

    async def second() -> Changed:
        steps.append("second write")
        return Changed([Announcement(announce, "second")], NO_CONTENT)

    return Changed([Announcement(announce, "first")], second)


async def test_each_part_of_a_write_is_announced_before_the_next_one_begins() -> None:
    assert await call(write, announces=[announce]) is NO_CONTENT
    assert steps == ["first write", "announce first", "second write", "announce second"]


async def test_a_part_that_was_committed_is_announced_though_the_next_one_fails() -> None:
    async def fail() -> Changed:
        raise Unavailable("Postgres", "127.0.0.1:1", "refused")

    async def half(_: Request[Any]) -> Changed:
        return Changed([Announcement(announce, "first")], fail)

    with pytest.raises(Unavailable):
        await call(half, announces=[announce])
    assert steps == ["announce first"]


async def test_a_body_is_read_and_prepared_before_the_write_and_neither_is_shielded() -> None:
    async def prepare(request: Request[dict[str, int]]) -> int:
        assert request.body == {}
        steps.append("prepare")
        await trio.lowlevel.checkpoint()
        return 5

    async def handle(request: Request[int]) -> AnyAnswer:
        assert request.body == 5
        steps.append("write")
        return NO_CONTENT

    await call(handle, body=dict, prepare=prepare, announces=NOTHING)
    assert steps == ["body", "prepare", "write"]
    with trio.CancelScope() as client:
        client.cancel()
        await call(handle, body=dict, prepare=prepare, announces=NOTHING)
    assert client.cancelled_caught
    assert steps[3:] == ["body", "prepare"]


async def test_a_read_is_cancelled_when_its_client_hangs_up() -> None:
    async def read(_: Request[Any]) -> AnyAnswer:
        await trio.lowlevel.checkpoint()
        raise AssertionError("it was not cancelled")

    with trio.CancelScope() as client:
        client.cancel()
        await call(read)
    assert client.cancelled_caught
