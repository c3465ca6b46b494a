import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space in its path, which is too long for a socket's.

    If root runs the tests, no other user can enter it: pytest's own folder is like that.
    """
    long = tmp_path / "with a space" / ("long" * 28)
    long.mkdir(parents=True)
    return long


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
