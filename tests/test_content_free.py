"""The server does without encryption: what it installs and imports holds no library of it. Clients encrypt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from tests.process_template import IMPORTED

ROOT: Final = Path(__file__).parent.parent

LIBRARIES: Final = {
    "vodozemac": "vodozemac",
    "doubleratchet": "doubleratchet",
    "x3dh": "x3dh",
    "xeddsa": "xeddsa",
    "agentvault-mls-rs-uniffi": "mls_rs_uniffi",
}
"""The package and the module of each library of encryption that clients and tests use: Olm and Megolm, Signal, MLS."""

SERVER: Final = ("jobs", "protocol", "runtime", "server", "store")


def packages_of(lock: str) -> set[str]:
    """The names of the packages that a file of locks/ installs."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text()
    return {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def test_the_server_installs_no_library_of_encryption() -> None:
    assert "trio" in packages_of("server")
    assert packages_of("server").isdisjoint(LIBRARIES)
    assert "vodozemac" in packages_of("run"), "the terminal client has it"


def test_the_programs_of_the_server_start_where_no_library_of_encryption_is_installed() -> None:
    naming = re.compile(rf"^ *(?:from|import) (?:{'|'.join(LIBRARIES.values())})\b", re.MULTILINE)
    files = [file for package in SERVER for file in (ROOT / package).rglob("*.py")]
    assert [file for file in files if naming.search(file.read_text())] == [], "not even where a function imports it"
    without = f"sys.modules.update(dict.fromkeys({sorted(LIBRARIES.values())}))"
    programs = [module for module in IMPORTED if module.startswith(SERVER)]
    script = f"import importlib, sys; {without}; [importlib.import_module(module) for module in {programs}]"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=300)
