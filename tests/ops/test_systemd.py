"""The units: that systemd accepts them, that they agree with the processes, and that these bear the restrictions."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
import pytest

from client.connection import connect
from client.http import Credentials
from embedded.ports import free_port
from runtime.config import Config
from store.postgres.pool import Pool
from tests.ops.ops_world import OPS, ROOT
from tests.people import new_direct
from tests.processes import open_cluster

FOLDER: Final = OPS / "systemd"
PROCESSES: Final = {"web": "server web", "socket": "server socket", "worker": "jobs"}
INSTALLED: Final = "/opt/alo/current"
STOP_S: Final = 25
"""A process ends so long after its grace at the latest (P10)."""

MOST_EXPOSED: Final = 2.0
"""Of systemd's score from 0 to 10; below 2 is its best class."""

each_process = pytest.mark.parametrize("process", PROCESSES)


class Unit:
    """A unit file: section -> key -> values, in order."""

    def __init__(self, name: str) -> None:
        self.text = (FOLDER / name).read_text()
        self.values: dict[str, list[str]] = {}
        for line in self.text.splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.values.setdefault(key, []).append(value)

    def one(self, key: str) -> str:
        [value] = self.values[key]
        return value


def procfile() -> dict[str, str]:
    return dict(re.findall(r"^(\w+): python -m (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE))


@each_process
def test_a_unit_runs_the_command_of_the_procfile_as_an_instance_that_tells_when_it_serves(process: str) -> None:
    unit = Unit(f"alo-{process}@.service")
    assert unit.one("ExecStart") == f"{INSTALLED}/.venv/bin/python -m {procfile()[process]}"
    environment = dict(pair.split("=") for pair in unit.one("Environment").split())
    assert environment["INSTANCE"] == "%i"
    assert unit.one("Type") == "notify"
    assert unit.one("WatchdogSec") == "30"


def test_the_migrations_run_before_the_processes() -> None:
    assert Unit("alo-release.service").one("ExecStart").endswith(f"python -m {procfile()['release']}")
    for process in PROCESSES:
        assert "alo-release.service" in Unit(f"alo-{process}@.service").one("After")


@each_process
def test_systemd_waits_for_the_grace_and_the_drain_before_it_kills(process: str) -> None:
    unit = Unit(f"alo-{process}@.service")
    grace_s = re.search(r"READY_GRACE_S=(\d+)", unit.one("Environment"))
    assert grace_s is not None
    assert int(grace_s[1]) + STOP_S <= int(unit.one("TimeoutStopSec")) == 30


@each_process
def test_variables_that_a_unit_sets_are_read_by_the_processes(process: str) -> None:
    known = {field.upper() for field in Config.__dataclass_fields__} | {"PYTHONDONTWRITEBYTECODE"}
    assert {pair.split("=")[0] for pair in Unit(f"alo-{process}@.service").one("Environment").split()} <= known


def test_all_units_are_restricted_alike() -> None:
    names = [*(f"alo-{process}@.service" for process in PROCESSES), "alo-release.service"]
    restrictions = {name: _paragraph(Unit(name).text, "CapabilityBoundingSet=") for name in names}
    assert len(set(restrictions.values())) == 1
    assert "NoNewPrivileges=yes" in restrictions["alo-release.service"]


def _paragraph(text: str, line: str) -> str:
    [found] = [each for each in text.split("\n\n") if line in each.splitlines()]
    return found.strip()


def test_every_line_is_a_setting_that_a_parser_reads() -> None:
    """Also where there is no systemd."""
    for file in sorted(FOLDER.iterdir()):
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(file)
        assert set(parser.sections()) <= {"Unit", "Service", "Install"}, file.name
        for section in parser.sections():
            assert all(re.fullmatch(r"[A-Z]\w+", key) for key in parser[section]), file.name


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units, with links to the checkout, whose path may have spaces, in place of the product's folder."""
    (tmp_path / "current").symlink_to(ROOT)
    (tmp_path / "python").symlink_to(sys.executable)
    for file in FOLDER.iterdir():
        text = file.read_text().replace(f"{INSTALLED}/.venv/bin/python", str(tmp_path / "python"))
        text = text.replace(INSTALLED, str(tmp_path / "current"))
        (tmp_path / file.name).write_text(text)
    return tmp_path


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "Debian and Ubuntu have it in the package systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.ops
@pytest.mark.parametrize("name", [*(f"alo-{process}@1.service" for process in PROCESSES), "alo-release.service"])
def test_systemd_accepts_a_unit_and_calls_it_well_protected(units: Path, name: str) -> None:
    template = re.sub(r"@1", "@", name)
    verified = systemd_analyze("verify", "--man=no", str(units / name if template == name else units / template))
    complaints = [line for line in verified.stderr.splitlines() if str(units) in line or template.split("@")[0] in line]
    assert complaints == []
    rated = systemd_analyze("security", "--offline=true", "--no-pager", str(units / template))
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated.stdout + rated.stderr)
    assert score is not None, rated.stderr
    assert float(score[1]) <= MOST_EXPOSED, rated.stdout


_REFUSE_EXEC_GAIN: Final = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit("the kernel has no PR_SET_MDWE: it is older than 6.3")
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
"""What MemoryDenyWriteExecute does: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)."""


@pytest.mark.ops
async def test_the_processes_run_without_memory_that_is_writable_and_executable(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, tmp_path: Path
) -> None:
    """Libraries that make machine code at run time would fail: a send, a login with its hash, and a job are done."""
    launcher = tmp_path / "denied.py"
    launcher.write_text(_REFUSE_EXEC_GAIN)
    conversation = await new_direct(pool, alice, bob)
    port, socket_port = free_port(), free_port()
    async with open_cluster(pool.url, redis_url, PORT=str(port), SOCKET_PORT=str(socket_port)) as cluster:
        settings = {"PYTHONPATH": str(tmp_path)}
        web = await cluster.start("denied", "server", "web", **settings)
        gateway = await cluster.start("denied", "server", "socket", **settings)
        worker = await cluster.start("denied", "jobs", **settings)
        for process, event in ((web, "listening"), (gateway, "listening"), (worker, "working")):
            await process.wait_event(event)
        async with connect(f"ws://127.0.0.1:{socket_port}", alice.token) as device:
            await device.send(conversation, b"x", temp_id=uuid4().bytes)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            body = {"username": "carol", "password": "correct horse battery staple"}
            made = await client.post("/v1/users", json=body)
            assert made.status_code == 201, made.text
            assert (await client.get("/readyz")).status_code == 200
        for process in (web, gateway, worker):
            assert await process.stop() == 0
            assert [line for line in process.log if line["level"] in ("error", "critical")] == []
