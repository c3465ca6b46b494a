"""A day of an operator: five incidents, each with an alert, and with the runbook's command, which names the cause.

Users chat and read through the given HAProxy. A real Prometheus scrapes all processes with the given configuration, and
evaluates the given rules, all of whose times are divided by one factor. INCIDENT_DAY_S=600 runs a longer day with a
slower clock, in which each incident comes in each of its forms; INCIDENT_SEED repeats a day.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest
import trio

from embedded.redis import RedisServer
from store.postgres.pool import Pool
from tests.exporters import may_mount
from tests.faults import redis_memory, set_redis
from tests.ops.incident_world import Installation, open_installation
from tests.ops.ops_world import commands_of
from tests.prometheus_server import Fired
from tests.rows import each_row
from tests.waiting import let_pass, wait_until

FACTOR: Final = 15.0
"""Minutes become four seconds. With a greater one scrapes would have to end sooner than a busy machine can."""

LONG_DAY_S: Final = 75 * 60.0
"""About what all forms of all incidents take, by the clock of the rules."""

LONGEST_S: Final = 20 * 60.0
"""Until an alert fires, or has gone, by the clock of the rules: the longest `for` and range of an expected one are 15
minutes together."""

CALM_S: Final = 120.0
"""Between two incidents, by the clock of the rules."""

BUSY_S: Final = 0.1
"""As late may this process have its turns, in the worst hundredth; else alerts of `OF_A_BUSY_MACHINE` say nothing."""

LOOK_BACK_S: Final = 10 * 60.0
"""By the clock of the rules: so long after a busy time an alert may fire, by its range and its `for`."""

OF_A_BUSY_MACHINE: Final = frozenset(
    {
        *("AloCommitsSlow", "AloDeliverySlow", "AloEventLoopLate", "AloHttpSlow", "AloPoolExhausted", "AloQueriesSlow"),
        *("AloNoSocket", "AloNoWeb", "AloNoWorker", "AloNotReady", "AloOutsideDown", "AloProcessDown"),
    }
)
"""Alerts that other programs on this machine explain, if they take the processors: all is slow, and Prometheus, whose
patience is divided by the factor as well, stops waiting for answers."""

SLACK_S: Final = 30.0
"""More, by the clock of the test, for a busy machine."""

FULL_DISK: Final = "disk nearly full"


@dataclass(frozen=True)
class IncidentForm:
    """A form of an incident.

    :ivar fault: holds during its block.
    :ivar alert: that has to fire.
    :ivar cause: what the command of the alert's paragraph has to say; a regular expression.
    :ivar explains: other alerts that may fire.
    """

    fault: Callable[[Installation], AbstractAsyncContextManager[None]]
    alert: str
    cause: str
    explains: frozenset[str] = frozenset()


@asynccontextmanager
async def _locked(at: Installation) -> AsyncGenerator[None, None]:
    """An operator's transaction is left open, with a lock on messages."""
    with psycopg.connect(at.pool.url, application_name="a forgotten psql") as forgotten:
        # Postgres gives the lock when the sends of the moment have ended, for which bytes pass through this process.
        await trio.to_thread.run_sync(forgotten.execute, "lock table messages in share row exclusive mode")
        yield


@asynccontextmanager
async def _far_away(at: Installation) -> AsyncGenerator[None, None]:
    """The network to Postgres is slow."""
    at.way.delay_s = 0.27
    try:
        yield
    finally:
        at.way.delay_s = 0.0


@asynccontextmanager
async def _evicting(at: Installation) -> AsyncGenerator[None, None]:
    """Redis has no more memory, and evicts keys."""
    set_redis(at.redis_url, "maxmemory-policy", "allkeys-lru")
    set_redis(at.redis_url, "maxmemory", str(redis_memory(at.redis_url)))
    try:
        yield
    finally:
        set_redis(at.redis_url, "maxmemory", "0")
        set_redis(at.redis_url, "maxmemory-policy", "noeviction")


@asynccontextmanager
async def _hanging(at: Installation) -> AsyncGenerator[None, None]:
    """A node stops without an end."""
    node = at.instances.process("socket", 2)
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


@asynccontextmanager
async def _nearly_full(at: Installation) -> AsyncGenerator[None, None]:
    """Something fills the disk of files."""
    at.disk.fill(free=0.05)
    try:
        yield
    finally:
        at.disk.clear()


@asynccontextmanager
async def _shows(at: Installation, name: str, days: float) -> AsyncGenerator[None, None]:
    """The proxy has another certificate: for this name, with an end after so many days."""
    await at.front.restart(name, ends=datetime.now(UTC) + timedelta(days=days))
    try:
        yield
    finally:
        await at.front.restart()


INCIDENTS: Final[dict[str, dict[str, IncidentForm]]] = {
    "Postgres slow": {
        "a lock": IncidentForm(
            _locked,
            "AloSendsUnavailable",
            r"locks +process \d+ \(a forgotten psql, idle in transaction\) holds a lock.*pg_terminate_backend\(\d+\)",
        ),
        "the network": IncidentForm(
            _far_away,
            "AloCommitsSlow",
            r"way to Postgres +a question takes \d{3,}\.\d ms.*network",
            frozenset({"AloHttpSlow", "AloPoolExhausted"}),
        ),
    },
    "Redis evicting": {
        "allkeys-lru": IncidentForm(
            _evicting,
            "AloNotReady",
            r"REDIS_URL: eviction +maxmemory-policy is allkeys-lru +config set",
            # The streams of nodes are among the evicted keys, so pushes are found missing, and come late.
            frozenset({"AloOutsideDown", "AloDeliverySlow", "AloPushesMissed"}),
        )
    },
    "a node hanging": {
        "SIGSTOP": IncidentForm(
            _hanging,
            "AloProcessDown",
            r"processes +socket 2 \(port \d+\) hangs.* is stopped by a signal.*kill -CONT \d+",
        )
    },
    FULL_DISK: {
        "of files": IncidentForm(_nearly_full, "AloDiskNearlyFull", r"disk of files .* are free \(\d%\) +make room")
    },
    "certificate wrong": {
        "of another name": IncidentForm(
            partial(_shows, name="other.example", days=90),
            "AloOutsideDown",
            r"certificate +clients do not trust that of localhost.*it is for other\.example",
        ),
        "ends soon": IncidentForm(
            partial(_shows, name="localhost", days=9),
            "AloCertificateEnds",
            r"certificate +that of localhost ends in 8 d.*renew it",
        ),
    },
}


ALERTS: Final = sorted({form.alert for forms in INCIDENTS.values() for form in forms.values()})


@each_row("alert", ALERTS)
def test_the_paragraph_of_an_incident_names_a_command_of_operators(alert: str) -> None:
    assert commands_of(alert)


class OperatorsDay:
    """The incidents of a day, and what was seen of them.

    :ivar seen: a line for each.
    """

    def __init__(self, at: Installation) -> None:
        self._at = at
        self._factor = at.prometheus.factor
        self.seen: list[str] = []

    async def calm(self) -> None:
        """No alert fires, and no reader meets an error."""
        self._at.readers.forget()
        began = trio.current_time()
        await let_pass(CALM_S / self._factor, why="a calm time in which no alert may fire")
        fired = await self._at.prometheus.fired_since(trio.current_time() - began)
        assert self._for_another_reason(fired, began) == set()
        assert set(self._at.readers.outcomes) == {200} or self._is_busy(began)

    async def undergo(self, name: str, form: IncidentForm) -> None:
        began = trio.current_time()
        async with form.fault(self._at):
            await self._wait(lambda: self._fires(form.alert), f"{form.alert} fires")
            fired_s = trio.current_time() - began
            command, *_ = commands_of(form.alert)
            typed = await self._at.shell.types(*command)
            named = [line for line in typed.out.splitlines() if re.search(form.cause, line)]
            assert named, (
                f"{name}: python -m server ops {' '.join(command)} does not name the cause:\n{typed.out}{typed.err}"
            )
        ended = trio.current_time()
        await self._wait(self._is_silent, "no alert fires or is pending")
        gone_s = trio.current_time() - ended
        seen = await self._at.prometheus.fired_since(trio.current_time() - began)
        fired = self._for_another_reason(seen, began) | {form.alert}
        assert fired - form.explains == {form.alert}, f"{name}: alerts that it does not explain"
        others = (", ".join(sorted(fired - {form.alert})) or "no other") + self._lateness(began)
        self.seen += [
            f"{name}: {form.alert} after {self._times(fired_s)}, gone after {self._times(gone_s)}; with {others}",
            f"    $ python -m server ops {' '.join(command)}",
            "    " + re.sub(" {2,}", " | ", named[0]),
        ]

    def _lateness(self, since: float) -> str:
        late_s = self._at.lateness.p99_s(since)
        return f"; the machine was busy: {late_s:.2f} s late (p99)" if late_s > BUSY_S else ""

    def _times(self, seconds: float) -> str:
        return f"{seconds:.1f} s ({seconds * self._factor / 60:.1f} min by the rules)"

    async def _fires(self, alert: str) -> bool:
        return alert in {each.name for each in await self._at.prometheus.firing()}

    async def _is_silent(self) -> bool:
        """A pending alert would fire although the incident is over, as errors stay in the range of its rule."""
        return not self._for_another_reason(await self._at.prometheus.present(), trio.current_time())

    def _for_another_reason(self, alerts: set[Fired], since: float) -> set[str]:
        """The names of the alerts that no other program on this machine explains."""
        return {each.name for each in alerts} - (OF_A_BUSY_MACHINE if self._is_busy(since) else set())

    def _is_busy(self, since: float) -> bool:
        """Whether other programs took the processors then, or shortly before."""
        return self._at.lateness.p99_s(since - LOOK_BACK_S / self._factor) > BUSY_S

    async def _wait(self, condition: Callable[[], object], what: str) -> None:
        await wait_until(condition, what, timeout_s=LONGEST_S / self._factor + SLACK_S)


@pytest.mark.ops
async def test_in_each_incident_an_alert_fires_and_the_command_of_its_paragraph_names_the_cause(
    pool: Pool, own_redis: RedisServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """No other alert fires than those that the incident explains, and none between two incidents."""
    seed = int(os.environ.get("INCIDENT_SEED") or secrets.randbelow(10**6))
    day_s = float(os.environ.get("INCIDENT_DAY_S") or 0)
    factor = LONG_DAY_S / day_s if day_s else FACTOR
    record_property("incidents", f"INCIDENT_SEED={seed}, times divided by {factor:.3g}")
    order = _order(random.Random(seed), with_all_forms=bool(day_s))
    if not may_mount():
        order = [(name, kind) for name, kind in order if name != FULL_DISK]
        record_property("incidents", f"{FULL_DISK}: left out, since no user of this machine may mount a disk")
    async with open_installation(pool, own_redis.url, tmp_path, factor) as at:
        day = OperatorsDay(at)
        try:
            await day.calm()
            for name, kind in order:
                await day.undergo(f"{name} ({kind})", INCIDENTS[name][kind])
                await day.calm()
        finally:
            for line in day.seen:
                record_property("incidents", line)


def _order(chance: random.Random, *, with_all_forms: bool) -> list[tuple[str, str]]:
    """Incidents and their forms: one of each, or all."""
    chosen = [
        (name, kind)
        for name, forms in INCIDENTS.items()
        for kind in (list(forms) if with_all_forms else [chance.choice(list(forms))])
    ]
    chance.shuffle(chosen)
    return chosen
