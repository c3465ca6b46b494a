import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.account import SystemAccount, account_for
from embedded.errors import EmbeddedError
from embedded.postgres import NOT_DURABLE, PostgresServer
from embedded.programs import NO_POSTGRES, NO_REDIS, Programs, find_postgres, find_redis, lend, take_back
from embedded.redis import RedisServer
from tests.embedded.embedded_world import ROOT, command, needs_root, nothing_runs_in, sql

NOWHERE = ""
MISSING = "no_such_package"
NO_PROGRAM = Path("/nowhere/redis-server")


def test_without_redis_one_sentence_says_how_to_get_it() -> None:
    with pytest.raises(EmbeddedError) as raised:
        find_redis(search_path=NOWHERE, packaged=NO_PROGRAM)
    assert str(raised.value) == NO_REDIS


def test_without_postgres_one_sentence_says_how_to_get_it() -> None:
    with pytest.raises(EmbeddedError) as raised:
        find_postgres(package=MISSING)
    assert str(raised.value) == NO_POSTGRES


@pytest.mark.parametrize(
    ("version", "is_used"), [("5.0.14", False), ("6.0.9", False), ("6.2.0", True), ("7.4.1", True)]
)
def test_a_redis_on_the_path_is_used_if_it_is_new_enough(tmp_path: Path, version: str, is_used: bool) -> None:
    server = tmp_path / "redis-server"
    server.write_text(f"#!/bin/sh\necho Redis server v={version} sha=00000000:0 malloc=libc bits=64\n")
    server.chmod(0o755)
    if is_used:
        assert find_redis(str(tmp_path), NO_PROGRAM).path == server
    else:
        with pytest.raises(EmbeddedError):
            find_redis(str(tmp_path), NO_PROGRAM)


def test_a_redis_on_the_path_that_is_too_old_leaves_the_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "redis-server").write_text("#!/bin/sh\necho Redis server v=5.0.14 sha=00000000:0\n")
    (tmp_path / "redis-server").chmod(0o755)
    packaged = tmp_path / "packaged" / "redis-server"
    packaged.parent.mkdir()
    packaged.touch()
    assert find_redis(str(tmp_path), packaged).path == packaged


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_redis_that_is_a_link_to_a_program_that_acts_by_its_name_is_started_by_the_name_of_the_link(
    folder: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch, is_hidden: bool
) -> None:
    """As Debian and Ubuntu install it; redis-check-rdb would end with its usage. Root's Redis may need a copy of it."""
    programs = folder if is_hidden else open_folder
    shutil.copy(find_redis().path, programs / "redis-check-rdb")
    (programs / "redis-server").symlink_to("redis-check-rdb")
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    service = RedisServer(folder / "redis", durable=False)
    service.start()
    try:
        assert command(service, "PING")
        assert service.processes() == [service.pid]
    finally:
        service.stop()


@needs_root
def test_a_link_in_a_folder_that_others_cannot_enter_is_out_of_reach(folder: Path, open_folder: Path) -> None:
    nobody = account_for(open_folder)
    assert nobody is not None
    (open_folder / "program").touch(0o755)
    (folder / "link").symlink_to(open_folder / "program")
    assert nobody.can_reach(open_folder / "program")
    assert not nobody.can_reach(folder / "link")


def test_the_programs_of_a_package_whose_files_are_links_are_found_where_the_package_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that a program needs are beside the link, not beside the file in an installer's cache."""
    package, cache = tmp_path / "linked_postgres", tmp_path / "cache" / "files"
    (package / "pginstall18" / "bin").mkdir(parents=True)
    cache.mkdir(parents=True)
    for name in ("__init__.py", "pginstall18/bin/postgres"):
        (cache / Path(name).name).touch()
        (package / name).symlink_to(cache / Path(name).name)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_postgres("linked_postgres").path == package / "pginstall18" / "bin" / "postgres"


@needs_root
def test_root_runs_it_as_another_user_and_changes_no_folder_above(folder: Path) -> None:
    above = [parent for parent in folder.parents if not _is_open(parent)]
    assert above, "this test is about a folder that others cannot enter"
    modes = [parent.stat().st_mode for parent in folder.parents]
    service = PostgresServer(folder, settings=NOT_DURABLE)
    service.start()
    try:
        assert Path(f"/proc/{service.pid}").stat().st_uid != 0
        assert sql(service, "select 1") == [(1,)]
    finally:
        service.stop()
    assert [parent.stat().st_mode for parent in folder.parents] == modes


@needs_root
def test_programs_out_of_reach_are_copied_and_the_copy_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = _copy_programs(folder / "hidden")
    monkeypatch.setattr("embedded.postgres.find_postgres", lambda: hidden)
    service = PostgresServer(folder, settings=NOT_DURABLE)
    service.start()
    try:
        assert sql(service, "select 1") == [(1,)]
        copy = (folder / "programs").resolve()
        assert copy.is_dir()
        assert not copy.is_relative_to(folder)  # only root can enter this folder
    finally:
        service.stop()
    assert not copy.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["data", "hidden", "log"]


@needs_root
def test_a_copy_is_made_beside_the_data_where_that_can_be_reached(folder: Path, open_folder: Path) -> None:
    nobody = account_for(open_folder)
    assert nobody is not None
    hidden = _copy_programs(folder)
    copy = lend(hidden, nobody, open_folder)
    assert copy.path.is_relative_to(open_folder.resolve())
    version = subprocess.run([copy.path, "--version"], user=nobody.uid, capture_output=True, text=True).stdout
    assert version.startswith("postgres (PostgreSQL) 18")
    assert lend(hidden, nobody, open_folder) == copy  # the copy of a killed run does no harm
    take_back(open_folder)
    assert not any(open_folder.iterdir())


@needs_root
def test_an_ordinary_user_runs_it_and_root_leaves_the_data_to_them(open_folder: Path) -> None:
    user = pwd.getpwnam("daemon")
    account = SystemAccount(user.pw_uid, user.pw_gid)
    interpreter = _interpreter_for(account)
    os.chown(open_folder, account.uid, account.gid)
    for _ in range(2):
        ended = subprocess.run(
            [interpreter, "-c", ORDINARY, open_folder],
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONPATH": str(find_postgres().root), "PYTHONDONTWRITEBYTECODE": "1"},
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
        assert ended.stdout == f"{account.uid} {account.uid}\n", ended.stderr
    service = PostgresServer(open_folder / "postgres", settings=NOT_DURABLE)
    service.start()
    try:
        assert Path(f"/proc/{service.pid}").stat().st_uid == account.uid
    finally:
        service.stop()
    assert service.data.stat().st_uid == account.uid
    assert nothing_runs_in(service.data)


ORDINARY = """
import pathlib, sys
from embedded.services import services
with services(pathlib.Path(sys.argv[1]), durable=False) as running:
    print(*(pathlib.Path(f"/proc/{service.pid}").stat().st_uid for service in (running.postgres, running.redis)))
"""


def _is_open(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXOTH)


def _copy_programs(root: Path) -> Programs:
    installed = find_postgres()
    for part in installed.parts:
        source, target = installed.root / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return Programs(root, installed.program, installed.parts)


def _interpreter_for(account: SystemAccount) -> str:
    if not account.can_reach(ROOT / "embedded") or not account.can_reach(find_postgres().path):
        pytest.skip("an ordinary user cannot reach this checkout")
    for candidate in (sys.executable, "/usr/bin/python3"):
        if Path(candidate).exists() and account.can_reach(Path(candidate)):
            return candidate
    pytest.skip("an ordinary user can reach no interpreter")
