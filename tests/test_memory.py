"""Folders in memory are used where there is room, and do not stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import memory
from tests.memory import in_memory

NO_PROCESS = 2**22 + 1
"""No process has this number: Linux gives numbers up to 2**22."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the file system in memory."""
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(memory, "MEMORY", place)
    monkeypatch.setattr(memory, "has_room", lambda: True)
    return place


def test_a_folder_is_removed_with_its_files(place: Path, tmp_path: Path) -> None:
    with in_memory(tmp_path) as folder:
        assert folder.parent == place
        (folder / "data").mkdir()
        (folder / "data" / "file").write_text("x")
    assert list(place.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_those_in_use_are_not(place: Path, tmp_path: Path) -> None:
    left = place / f"alo-shield-tests-{NO_PROCESS}-x"
    used = place / f"alo-shield-tests-{os.getppid()}-x"
    other = place / "other"
    for each in (left, used, other):
        each.mkdir()
    with in_memory(tmp_path):
        assert not left.exists()
        assert used.exists()
        assert other.exists()


def test_without_room_in_memory_the_folder_is_on_disk(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "has_room", lambda: False)
    with in_memory(tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.exists()
    assert list(place.iterdir()) == []
