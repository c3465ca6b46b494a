"""The image and the Compose file: rules for both, and the steps of the Dockerfile, run without a container."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trio
import yaml

from embedded.ports import free_port
from runtime.config import Config
from store.postgres.pool import Pool
from tests.ops.ops_world import OPS, ROOT
from tests.processes import START_TIMEOUT_S, Process
from tests.rows import each_row

FOLDER: Final = OPS / "docker"
STOP_S: Final = 25
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
PROCESSES: Final = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "alo"}


class ImageStep(NamedTuple):
    """An instruction of the Dockerfile.

    :ivar stage: the number of its stage.
    """

    stage: int
    instruction: str
    text: str


def steps() -> list[ImageStep]:
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    found, stage = [], -1
    for line in lines:
        if line.strip() and not line.startswith("#"):
            instruction, _, text = line.partition(" ")
            stage += instruction == "FROM"
            found.append(ImageStep(stage, instruction, text.strip()))
    return found


LAST: Final = max(step.stage for step in steps())


def last(instruction: str) -> list[str]:
    """The texts of an instruction in the image that is kept."""
    return [step.text for step in steps() if step.instruction == instruction and step.stage == LAST]


def test_the_image_follows_the_rules_of_a_linter() -> None:
    """Those of hadolint that concern it, by their numbers."""
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    for step in steps():
        assert step.instruction in known, step  # DL3020: COPY, not ADD
        if step.instruction == "FROM":
            image = step.text.split()[0]
            assert ":" in image, "DL3006: a tag"
            assert not image.endswith(":latest"), "DL3007"
        if step.instruction == "WORKDIR":
            assert step.text.startswith("/"), "DL3000"
        if step.instruction == "RUN":
            assert not re.search(r"\bsudo\b|\bcd\b|apt-get|\|", step.text), "DL3004, DL3003, DL3008, DL4006"
            if "pip install" in step.text:
                assert "--no-cache-dir" in step.text, "DL3042"
                assert "--require-hashes" in step.text, "DL3013: versions, and here hashes"
        if step.instruction in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(step.text), list), "DL3025: the JSON form, which passes signals on"
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER")[-1]), "DL3002: not root; Kubernetes can check a number"
    assert len(last("ENTRYPOINT")) == len(last("CMD")) == 1, "DL4003, DL4004"


def test_the_image_has_the_packages_of_the_lock_and_the_code_that_a_deployment_runs() -> None:
    installed = [step.text.split()[-1] for step in steps() if "pip install" in step.text]
    assert installed == ["locks/build.txt", "locks/server.txt"]
    copied = {text.split()[0] for text in last("COPY") if "--from" not in text}
    assert copied == {"protocol", "store", "runtime", "jobs", "server"}, "no clients, tests or embedded services"


def test_nothing_but_what_the_image_copies_is_sent_to_the_builder() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    sources = {Path(name).parts[0] for step in steps() if step.instruction == "COPY" for name in _sources(step.text)}
    assert kept == sources


def _sources(copy: str) -> list[str]:
    """What a COPY takes from the checkout."""
    return [] if "--from" in copy else copy.split()[:-1]


@each_row("name", PROCESSES)
def test_a_process_in_compose_is_not_root_writes_nowhere_else_and_has_time_to_drain(name: str) -> None:
    service = PROCESSES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service, "the image's"
    grace_s = int(service["environment"]["READY_GRACE_S"])
    assert int(service["stop_grace_period"].removesuffix("s")) >= STOP_S + grace_s
    assert service["ulimits"]["nofile"] >= 65536


def test_compose_runs_the_commands_of_the_procfile() -> None:
    commands = {" ".join(service["command"]) for service in PROCESSES.values()}
    procfile = re.findall(r"^\w+: python -m (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert commands == set(procfile)


@pytest.mark.parametrize("name", [name for name in PROCESSES if name != "release"])
def test_a_process_in_compose_is_healthy_when_it_is_ready_and_starts_after_the_migrations(name: str) -> None:
    service = PROCESSES[name]
    port = {"web": 9464, "socket": 9465, "jobs": 9466}[service["command"][-1]]
    assert f"http://127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1]
    assert service["depends_on"]["release"] == {"condition": "service_completed_successfully"}
    published = [mapping.split(":") for mapping in service["ports"]]
    assert {host for host, _, _ in published} == {"127.0.0.1"}, "the proxy and Prometheus are on this machine"
    assert str(port) in {inside for _, _, inside in published}


def test_compose_publishes_each_port_once_and_where_the_proxies_and_prometheus_look() -> None:
    published = [mapping.rpartition(":")[0] for service in PROCESSES.values() for mapping in service.get("ports", [])]
    assert len(set(published)) == len(published)
    proxies = "".join((OPS / name).read_text() for name in ("nginx/alo.conf", "haproxy/haproxy.cfg"))
    scraped = (OPS / "prometheus" / "prometheus.yml").read_text()
    addressed = set(re.findall(r"127\.0\.0\.1:(?:80\d\d)", proxies)) | set(re.findall(r"127\.0\.0\.1:94\d\d", scraped))
    assert set(published) == addressed


def test_compose_sets_no_variable_that_the_processes_do_not_read() -> None:
    known = {field.upper() for field in Config.__dataclass_fields__}
    for service in PROCESSES.values():
        assert set(service["environment"]) <= known
    environment = dict(pair.split("=", 1) for text in last("ENV") for pair in shlex.split(text))
    assert {name for name in environment if not name.startswith(("PYTHON", "PATH"))} <= known


def test_the_redis_of_compose_never_evicts_and_writes_no_file() -> None:
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--save") + 1] == ""


class Image:
    """The steps of the Dockerfile, run in a folder: `/x` is `FOLDER/STAGE/x`, the base image this machine's Python."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = ""
        self.environment: dict[str, str] = {}

    @property
    def work(self) -> Path:
        """The working folder of the last stage."""
        return self._root(LAST) / self._work

    def build(self) -> None:
        for step in steps():
            getattr(self, f"_{step.instruction.lower()}", self._skip)(step)

    def _root(self, stage: int) -> Path:
        return self._folder / str(stage)

    def _skip(self, step: ImageStep) -> None:
        """What says how a container runs, and no step of the build."""

    def _from(self, step: ImageStep) -> None:
        self._root(step.stage).mkdir()

    def _workdir(self, step: ImageStep) -> None:
        self._work = step.text.lstrip("/")
        (self._root(step.stage) / self._work).mkdir(parents=True)

    def _env(self, step: ImageStep) -> None:
        self.environment |= dict(pair.split("=", 1) for pair in shlex.split(step.text))

    def _run(self, step: ImageStep) -> None:
        root = self._root(step.stage)
        # A user of the image's own, and absolute paths, are those of a container.
        text = re.sub(r" --(?:owner|group)=\d+", "", step.text)
        text = re.sub(r"(?<= )/(?=\w)", f"{root}/", text)
        text = re.sub(r"^python ", f"{shlex.quote(_base_python())} ", text)
        ended = subprocess.run(["sh", "-ec", text], cwd=root / self._work, capture_output=True, text=True, timeout=400)
        assert ended.returncode == 0, f"{step.text}\n{ended.stdout}{ended.stderr}"

    def _copy(self, step: ImageStep) -> None:
        *sources, target = [word for word in step.text.split() if not word.startswith("--")]
        here = self._root(step.stage) / self._work / target
        if "--from" in step.text:
            [source] = sources
            shutil.copytree(self._root(0) / source.lstrip("/"), here, symlinks=True)
            return
        for source in sources:
            self._copy_from_checkout(source, here, is_folder=target.endswith("/"))

    def _copy_from_checkout(self, source: str, target: Path, *, is_folder: bool) -> None:
        ignored = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:2] == "**"]

        def left_out(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if any(fnmatch(name, pattern.removeprefix("**/")) for pattern in ignored)]

        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=left_out)
        else:
            target = target / Path(source).name if is_folder else target
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, target)


def _base_python() -> str:
    """The Python that made the environment of the tests."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """In a folder that the user of the image can reach."""
    with tempfile.TemporaryDirectory(prefix="alo-image-") as folder:
        Path(folder).chmod(0o755)
        made = Image(Path(folder))
        made.build()
        yield made


@pytest.mark.ops
async def test_the_steps_of_the_dockerfile_make_an_image_that_serves_without_writing(
    image: Image, pool: Pool, redis_url: str
) -> None:
    """Each command of the Compose file, in a folder without write permission, beside nothing of the checkout."""
    python = str(image.work / ".venv" / "bin" / "python")
    await trio.run_process(["chmod", "-R", "a-w", str(image.work)])
    before = _files(image.work)
    not_here = ("PATH", "HOST", "METRICS_HOST")
    environment = {name: value for name, value in image.environment.items() if name not in not_here}
    environment |= {"DATABASE_URL": pool.url, "REDIS_URL": redis_url, "PATH": os.defpath, "METRICS_PORT": "0"}
    environment |= {"PORT": str(free_port()), "SOCKET_PORT": str(free_port()), "HOME": "/nonexistent"}
    events = {"server web": "listening", "server socket": "listening", "jobs": "working"}
    try:
        for command in sorted({" ".join(service["command"]) for service in PROCESSES.values()}):
            process = await trio.lowlevel.open_process(
                [python, "-m", *command.split()],
                cwd=image.work,
                env=environment,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                **_as_another_user(),
            )
            running = Process(process)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.read_log)
                if command in events:
                    await running.wait_event(events[command], timeout_s=START_TIMEOUT_S)
                    running.signal(signal.SIGTERM)
                with trio.fail_after(START_TIMEOUT_S):
                    assert await running.wait() == 0, running.raw
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["chmod", "-R", "u+w", str(image.work)])
    assert _files(image.work) == before


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def _as_another_user() -> dict[str, Any]:
    """The user of the image, if this process may become that user, and that user may enter the folder of the machine's
    Python. Else the processes may write, and the list of files shows whether they did."""
    user, group = (int(number) for number in last("USER")[-1].split(":"))
    may_enter = all(folder.stat().st_mode & 0o001 for folder in Path(_base_python()).resolve().parents)
    return {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 and may_enter else {}


@pytest.mark.ops
def test_the_image_has_no_package_that_the_lock_does_not_name(image: Image) -> None:
    """And not those that install packages."""
    metadata = (image.work / ".venv").glob("lib/python*/site-packages/*.dist-info/METADATA")
    found = {re.search(r"^Name: (\S+)", file.read_text(), re.MULTILINE)[1] for file in metadata}  # type: ignore[index]
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "locks" / "server.txt").read_text(), re.MULTILINE)
    assert {_normal(name) for name in found} <= {_normal(name) for name in locked}
    assert not {"pip", "setuptools", "pytest", "honcho"} & found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
