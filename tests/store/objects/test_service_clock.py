"""The clock of a service: learnt from its answers, and used for all signatures."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from structlog.testing import capture_logs

from store.errors import ObjectStoreRefused
from store.objects import s3
from store.objects.service_clock import SUSPICIOUS_S, ServiceClock
from store.objects.url import keep_time, open_objects
from tests.store.objects.scripted_service import ServiceReply, ServiceRequest, scripted
from tests.waiting import DEADLINE_S

HOUR_S = 3600.0
LATE = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"


def off_by(date: str, ahead_s: float) -> float:
    """How far a date of a signature is from a clock that is ahead of this machine's, in seconds."""
    signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    return abs(signed - (time.time() + ahead_s))


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("code", [LATE, b"<Error><Code>AccessDenied</Code></Error>", b""])
async def test_request_with_a_date_that_the_service_refuses_is_sent_once_more(ahead_s: float, code: bytes) -> None:
    """The code differs from service to service, and HEAD has none: the dates tell."""
    dates: list[str] = []

    def script(asked: ServiceRequest) -> ServiceReply:
        dates.append(asked.headers["x-amz-date"])
        is_late = off_by(dates[-1], ahead_s) > 900
        return ServiceReply(code, 403, ahead_s=ahead_s) if is_late else ServiceReply(b"found", ahead_s=ahead_s)

    async with scripted(script) as objects:
        assert await objects.get("a") == b"found"
        assert await objects.get("a") == b"found"
    assert len(dates) == 3
    assert [off_by(date, ahead_s) < 10 for date in dates] == [False, True, True]


async def test_request_that_is_refused_with_the_right_date_is_not_sent_again() -> None:
    asked: list[ServiceRequest] = []

    def script(each: ServiceRequest) -> ServiceReply:
        asked.append(each)
        return ServiceReply(b"<Error><Code>AccessDenied</Code></Error>", 403)

    async with scripted(script) as objects:
        with pytest.raises(ObjectStoreRefused, match="status 403 AccessDenied"):
            await objects.get("a")
    assert len(asked) == 1


async def test_request_is_sent_once_more_and_not_for_ever() -> None:
    """A service whose clock jumps with each answer."""
    asked: list[ServiceRequest] = []

    def script(each: ServiceRequest) -> ServiceReply:
        asked.append(each)
        return ServiceReply(LATE, 403, ahead_s=len(asked) * HOUR_S)

    async with scripted(script) as objects:
        with pytest.raises(ObjectStoreRefused, match="RequestTimeTooSkewed"):
            await objects.get("a")
    assert len(asked) == 2


async def test_presigned_requests_have_the_time_of_the_service() -> None:
    """They end by its clock."""
    async with scripted(lambda asked: ServiceReply(ahead_s=HOUR_S)) as objects:
        [before] = parse_qs(urlsplit(objects.presign_get("a", expires_s=60).url).query)["X-Amz-Date"]
        await objects.get("a")
        [after] = parse_qs(urlsplit(objects.presign_get("a", expires_s=60).url).query)["X-Amz-Date"]
    assert off_by(before, 0) < 10
    assert off_by(after, HOUR_S) < 10


async def test_process_that_only_signs_asks_for_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, again after a while, and sooner if the service was away or gave no time."""
    monkeypatch.setattr(s3, "CLOCK_S", 0.0)
    monkeypatch.setattr(s3, "CLOCK_RETRY_S", 0.0)
    replies = [ServiceReply(status=503), ServiceReply(status=403), ServiceReply(), ServiceReply(ahead_s=HOUR_S)]
    asked: list[tuple[str, str]] = []
    enough = trio.Event()

    def script(each: ServiceRequest) -> ServiceReply:
        asked.append((each.method, each.path))
        if len(asked) > len(replies):
            enough.set()
        return replies[min(len(asked), len(replies)) - 1]

    with capture_logs() as logs, trio.fail_after(DEADLINE_S):
        async with scripted(script) as objects, trio.open_nursery() as nursery:
            nursery.start_soon(keep_time, objects)
            await enough.wait()
            nursery.cancel_scope.cancel()
            [date] = parse_qs(urlsplit(objects.presign_get("a", expires_s=60).url).query)["X-Amz-Date"]
    assert set(asked) == {("HEAD", "/bucket")}
    assert off_by(date, HOUR_S) < 10
    assert [event["event"] for event in logs] == [
        "object_store_is_away",
        "object_store_refuses",
        "object_store_clock_differs",
    ]


async def test_a_folder_has_the_clock_of_this_machine(tmp_path: Path) -> None:
    async with open_objects(tmp_path.as_uri()) as objects:
        with trio.fail_after(DEADLINE_S):
            await keep_time(objects)
            await keep_time(None)


async def test_operators_are_told_once_of_a_clock_that_differs() -> None:
    with capture_logs() as logs:
        async with scripted(lambda asked: ServiceReply(ahead_s=HOUR_S)) as objects:
            for _ in range(3):
                await objects.get("a")
    [event] = logs
    assert (event["event"], event["log_level"], event["where"]) == (
        "object_store_clock_differs",
        "warning",
        str(objects),
    )
    here, there = (datetime.fromisoformat(event[name]).timestamp() for name in ("here", "there"))
    assert abs(there - here - HOUR_S) < 10


def test_clock_that_was_right_meanwhile_is_told_of_again() -> None:
    clock = ServiceClock("a service")
    with capture_logs() as logs:
        for ahead_s in (SUSPICIOUS_S + 5, SUSPICIOUS_S + 5, 0, -SUSPICIOUS_S - 5):
            clock.measure(formatdate(time.time() + ahead_s, usegmt=True))
    assert len(logs) == 2


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026 22:17:04 GMT", "Mon, 30 Nov 9999999 22:17:04 GMT"])
def test_date_that_cannot_be_read_changes_nothing(date: str) -> None:
    clock = ServiceClock("a service")
    clock.measure(date)
    assert abs(clock.now() - time.time()) < 10
    clock.measure(formatdate(time.time() + HOUR_S, usegmt=True))
    clock.measure(date)
    assert abs(clock.now() - time.time() - HOUR_S) < 10
