"""`python -m tests.system.told_modules FILE MODULE ...`: run a module; at its end write its modules to a file.

The packages in MISSING_PACKAGES, separated by commas, are as if they were not installed.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import sys
from pathlib import Path


def write_modules(file: str) -> None:
    Path(file).write_text(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))


if __name__ == "__main__":
    for package in filter(None, os.environ.get("MISSING_PACKAGES", "").split(",")):
        sys.modules[package] = None  # type: ignore[assignment]  # so that an import fails
    atexit.register(write_modules, sys.argv[1])
    module, *arguments = sys.argv[2:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
