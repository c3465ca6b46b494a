"""Install what setup.cfg requires: `python -m embedded.requirements [EXTRA ...]`.

Not the project itself: everything runs from the checkout, and an editable install would write beside it.
"""

import configparser
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def requirements(configuration: Path, extras: Iterable[str]) -> list[str]:
    """The requirements of the project and of the extras; raises KeyError for an extra there isn't."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(configuration)
    named = parser["options.extras_require"]
    blocks = [parser["options"]["install_requires"], *(named[extra] for extra in extras)]
    lines = (line.strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    sys.exit(subprocess.call([*pip, *requirements(Path("setup.cfg"), sys.argv[1:])]))
