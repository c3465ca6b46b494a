"""The npm packages of the web client are installed once, and their absence is told."""

import os
from pathlib import Path

import pytest

from embedded.requirements import RequirementsError
from embedded.web_packages import LOCK, find_npm, install_packages, is_installed

NPM = """#!/bin/sh
echo "$@" >> calls
mkdir -p node_modules
[ -e fails ] || exit 0
echo "npm error code ENOTFOUND" >&2
exit 1
"""


@pytest.fixture
def npm(tmp_path: Path) -> Path:
    """A program that notes how it is called, in a folder with a lock."""
    program = tmp_path / "npm"
    program.write_text(NPM)
    program.chmod(0o755)
    (tmp_path / LOCK).write_text("{}")
    return program


def test_packages_are_installed_once_and_again_for_another_lock(npm: Path) -> None:
    folder = npm.parent
    assert not is_installed(folder)
    for _ in range(2):
        assert install_packages(folder, lambda: [str(npm)]) == ""
        assert is_installed(folder)
    (folder / LOCK).write_text("{ }")
    assert not is_installed(folder)
    assert install_packages(folder, lambda: [str(npm)]) == ""
    assert (folder / "calls").read_text() == "ci\nci\n"


def test_a_failure_of_npm_is_told_in_its_words_and_tried_again(npm: Path) -> None:
    folder = npm.parent
    (folder / "fails").touch()
    for _ in range(2):
        assert install_packages(folder, lambda: [str(npm)]) == "npm error code ENOTFOUND"
        assert not is_installed(folder)
    (folder / "fails").unlink()
    assert install_packages(folder, lambda: [str(npm)]) == ""


def test_programs_that_do_not_run_are_told_and_are_no_failure(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (npm.parent / name).write_bytes(b"\x7fELF of another machine")
        (npm.parent / name).chmod(0o755)
    assert "npm" in install_packages(npm.parent, lambda: [str(npm)])
    monkeypatch.setattr("embedded.web_packages.PACKAGE", "no_such_package_with_node")
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RequirementsError):
        find_npm(lambda: None)


@pytest.mark.parametrize(("version", "is_used"), [("v20.1.0", True), ("v18.20.4", False), ("strange", False)])
def test_the_npm_of_the_machine_is_used_beside_a_new_node(
    npm: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_used: bool
) -> None:
    node = npm.parent / "node"
    node.write_text(f"#!/bin/sh\necho {version}\n")
    node.chmod(0o755)
    monkeypatch.setattr("embedded.web_packages.PACKAGE", "no_such_package_with_node")
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")

    def no_network() -> None:
        raise RequirementsError("no network")

    if is_used:
        assert find_npm(no_network) == [str(npm)]
    else:
        assert install_packages(npm.parent, lambda: find_npm(no_network)) == "no network"
