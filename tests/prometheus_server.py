"""Debian's Prometheus with the configuration and the rules of `ops/prometheus/`, on a clock that runs faster."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import yaml

from embedded.ports import free_port
from tests.programs import running_program
from tests.proxies import ROOT

FOLDER: Final = ROOT / "ops" / "prometheus"

PROMETHEUS: Final = shutil.which(ROOT / ".venv" / "ops" / "usr" / "bin" / "prometheus") or shutil.which("prometheus")
"""The program that `make ops` installs, or the machine's; None: there is neither."""

LOOKBACK_S: Final = 300.0
"""For how long Prometheus takes a value for the present one, by default."""

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_RANGE: Final = re.compile(r"\[([^\]:]+)\]")


def faster(duration: str, factor: float) -> str:
    """A duration of Prometheus, such as `5m` or `1h30m`, divided by the factor."""
    assert re.fullmatch(rf"({_DURATION.pattern})+", duration), duration
    ms = sum(int(count) * _UNITS[unit] for count, unit in _DURATION.findall(duration))
    return f"{max(1, round(ms / factor))}ms"


def faster_rules(text: str, factor: float) -> str:
    """A file of rules with all of its times divided by the factor: how long an alert waits, and the ranges in
    expressions. Limits stay: they are values, and those in seconds are ages of things."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        assert group.keys() == {"name", "rules"}, "an interval of its own"
        for rule in group["rules"]:
            assert " offset " not in rule["expr"], "a time that is not divided"
            rule["expr"] = _RANGE.sub(lambda found: f"[{faster(found[1], factor)}]", rule["expr"])
            if "for" in rule:
                rule["for"] = faster(rule["for"], factor)
    return json.dumps(rules)  # JSON is YAML


class Scraped(NamedTuple):
    """What is scraped in place of what the configuration names.

    :ivar processes: kind -> the addresses of its processes.
    :ivar node: the address of node_exporter.
    :ivar outside: the URL that blackbox_exporter asks for.
    :ivar blackbox: its address.
    """

    processes: Mapping[str, Sequence[str]]
    node: str
    outside: str
    blackbox: str


def faster_configuration(text: str, factor: float, rules: Path, scraped: Scraped) -> str:
    """The given configuration with its times divided by the factor, for other targets and without an alert manager."""
    configuration = yaml.safe_load(text)
    configuration["global"] = {name: faster(value, factor) for name, value in configuration["global"].items()}
    configuration["rule_files"] = [str(rules)]
    del configuration["alerting"]
    alo, node, outside = configuration["scrape_configs"]
    assert [each["job_name"] for each in (alo, node, outside)] == ["alo", "node", "outside"]
    for each in alo["static_configs"]:
        each["targets"] = list(scraped.processes[each["labels"]["process"]])
    node["static_configs"] = [{"targets": [scraped.node]}]
    outside["static_configs"] = [{"targets": [scraped.outside]}]
    outside["relabel_configs"][-1]["replacement"] = scraped.blackbox
    return json.dumps(configuration)


class Fired(NamedTuple):
    """An alert that fires.

    :ivar about: its labels, without those that all have.
    """

    name: str
    about: str


@dataclass(frozen=True)
class Prometheus:
    """A server that runs.

    :ivar factor: by which its clock is faster.
    """

    url: str
    factor: float

    async def firing(self) -> set[Fired]:
        """The alerts that fire now."""
        return {_fired(alert["labels"]) for alert in await self._alerts() if alert["state"] == "firing"}

    async def present(self) -> set[Fired]:
        """The alerts that fire now, or will if their condition goes on."""
        return {_fired(alert["labels"]) for alert in await self._alerts()}

    async def _alerts(self) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = (await self._get("alerts"))["alerts"]
        return alerts

    async def fired_since(self, seconds: float) -> set[Fired]:
        """The alerts that have fired in these last seconds, however short."""
        query = f'ALERTS{{alertstate="firing"}}[{max(1, round(1000 * seconds))}ms]'
        return {_fired(series["metric"]) for series in (await self._get("query", query=query))["result"]}

    async def _get(self, path: str, **parameters: str) -> Any:
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


def _fired(labels: Mapping[str, str]) -> Fired:
    left_out = {"alertname", "alertstate", "severity", "__name__", "job"}
    about = ", ".join(f"{name} {value}" for name, value in sorted(labels.items()) if name not in left_out)
    return Fired(labels["alertname"], about)


@asynccontextmanager
async def running_prometheus(
    folder: Path, scraped: Scraped, factor: float, **change: Any
) -> AsyncGenerator[Prometheus, None]:
    """Prometheus until the end of the block.

    :param folder: for its files.
    :param change: job -> further keys of its scrape configuration.
    """
    assert PROMETHEUS is not None, "`make ops` installs it"
    rules, file, port = folder / "rules.yml", folder / "prometheus.yml", free_port()
    rules.write_text(faster_rules((FOLDER / "rules.yml").read_text(), factor))
    configuration = json.loads(faster_configuration((FOLDER / "prometheus.yml").read_text(), factor, rules, scraped))
    for each in configuration["scrape_configs"]:
        each |= change.get(each["job_name"], {})
    file.write_text(json.dumps(configuration))
    command = [
        *(PROMETHEUS, f"--config.file={file}", f"--storage.tsdb.path={folder / 'prometheus'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"),
        f"--query.lookback-delta={faster(f'{LOOKBACK_S:.0f}s', factor)}",
    ]
    async with running_program(command, port):
        yield Prometheus(f"http://127.0.0.1:{port}", factor)
