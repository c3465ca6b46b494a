"""The file of keys: transactions, passphrases, and what a thief of the file sees."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from client.e2ee import vault as module
from client.e2ee.vault import Transaction, Vault, VaultFailure, WrongPassphrase, open_vault


class Thing(Struct, frozen=True, tag="thing"):
    text: str


class Other(Struct, frozen=True, tag="other"):
    text: str


@contextmanager
def opened(path: Path, passphrase: str = "a passphrase") -> Iterator[Vault]:
    with closing(open_vault(path, passphrase)) as vault:
        yield vault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ann.keys"


def test_values_are_there_again_by_type_shelf_and_name(path: Path) -> None:
    with opened(path) as vault, vault.transaction() as tx:
        tx.put(Thing("one"), b"a")
        tx.put(Thing("two"), b"b")
        tx.put(Thing("three"), b"a", of=b"shelf")
        tx.put(Other("other"), b"a")
    with opened(path) as vault, vault.transaction() as tx:
        assert tx.get(Thing, b"a") == Thing("one")
        assert tx.get(Thing, b"a", of=b"shelf") == Thing("three")
        assert tx.get(Other, b"a") == Other("other")
        assert sorted(each.text for each in tx.all(Thing)) == ["one", "two"]
        tx.put(Thing("more"), b"a")
        tx.drop(Thing, b"b")
        assert tx.all(Thing) == [Thing("more")]
        assert tx.get(Thing, b"b") is None


def test_an_error_undoes_the_whole_transaction_or_its_part(path: Path) -> None:
    def fail(tx: Transaction) -> None:
        tx.put(Thing("gone"))
        raise ZeroDivisionError

    with opened(path) as vault:
        with pytest.raises(ZeroDivisionError), vault.transaction() as tx:
            fail(tx)
        with vault.transaction() as tx:
            assert tx.get(Thing) is None
            tx.put(Thing("stays"))
            with pytest.raises(ZeroDivisionError), tx.part():
                fail(tx)
            with tx.part():
                tx.put(Other("stays"))
        with vault.transaction() as tx:
            assert (tx.get(Thing), tx.get(Other)) == (Thing("stays"), Other("stays"))


def test_another_passphrase_does_not_open_it(path: Path) -> None:
    with opened(path):
        pass
    with pytest.raises(WrongPassphrase), opened(path, "another"):
        pass
    with opened(path):
        pass


def test_a_new_passphrase_takes_the_place_of_the_old_one_and_keeps_the_values(path: Path) -> None:
    with opened(path) as vault:
        with vault.transaction() as tx:
            tx.put(Thing("kept"))
        vault.set_passphrase("another")
    with pytest.raises(WrongPassphrase), opened(path):
        pass
    with opened(path, "another") as vault, vault.transaction() as tx:
        assert tx.get(Thing) == Thing("kept")


def test_the_passphrase_is_stretched_by_the_recommended_costs_unless_a_test_says_otherwise(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        costs = database.execute("select time_cost, memory_kib, lanes, length(salt) from header").fetchall()
    assert costs == [(3, 65536, 4, 16)]


def test_the_file_shows_no_value_and_no_name_and_only_its_owner_reads_it(path: Path) -> None:
    with opened(path) as vault, vault.transaction() as tx:
        tx.put(Thing("planted-text"), b"planted-name", of=b"planted-shelf")
        tx.put(Thing("planted-text"), b"another")
        journal = path.with_name(path.name + "-journal")
        assert journal.stat().st_mode & 0o777 == 0o600
        assert b"planted" not in journal.read_bytes()
    data = path.read_bytes()
    assert b"planted" not in data
    assert b"Thing" not in data
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(path)) as database:
        values = [value for (value,) in database.execute("select value from entries")]
    assert len({value[12:] for value in values}) == 2, "equal values do not look equal"


def test_a_value_that_is_replaced_or_dropped_leaves_no_byte(path: Path) -> None:
    with opened(path) as vault:
        with vault.transaction() as tx:
            tx.put(Thing("x" * 100), b"a")
        with closing(sqlite3.connect(path)) as database:
            [(old,)] = database.execute("select value from entries").fetchall()
        assert old in path.read_bytes()
        with vault.transaction() as tx:
            tx.put(Thing("y"), b"a")
        assert old[-40:] not in path.read_bytes()


def test_values_that_a_program_has_moved_or_changed_are_refused(path: Path) -> None:
    with opened(path) as vault:
        with vault.transaction() as tx:
            tx.put(Thing("one"), b"a")
            tx.put(Thing("two"), b"b")
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("update entries set value = (select value from entries order by name limit 1)")
        with vault.transaction() as tx:
            read = []
            for name in (b"a", b"b"):
                try:
                    read.append(tx.get(Thing, name))
                except VaultFailure:
                    read.append(None)
        assert read.count(None) == 1, "the one in its own place is good"


def test_two_programs_share_it_in_turn(path: Path) -> None:
    with opened(path) as one, opened(path) as other:
        for vault in (one, other, one):
            with vault.transaction() as tx:
                held = tx.get(Thing)
                tx.put(Thing((held.text if held else "") + "x"))
        with other.transaction() as tx:
            assert tx.get(Thing) == Thing("xxx")


def test_a_file_that_another_program_holds_for_too_long_is_a_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    with (
        opened(path) as one,
        opened(path) as other,
        one.transaction(),
        pytest.raises(VaultFailure, match="locked"),
        other.transaction(),
    ):
        pass


def test_a_file_that_is_no_vault_is_a_failure(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else " * 100)
    with pytest.raises(VaultFailure, match="cannot be used"), opened(path):
        pass


WRITER = """
import sys
from pathlib import Path
from msgspec import Struct
from client.e2ee import vault as module
module.TIME_COST, module.MEMORY_KIB = 1, 32
class Thing(Struct, frozen=True, tag="thing"):
    text: str
vault = module.open_vault(Path(sys.argv[1]), "a passphrase")
number = 0
while True:
    with vault.transaction() as tx:
        tx.put(Thing(str(number)), b"a")
        tx.put(Thing(str(number)), b"b")
    print(number, flush=True)
    number += 1
"""


def test_a_program_that_is_killed_at_any_moment_leaves_whole_transactions_and_all_that_it_told(path: Path) -> None:
    for told_lines in (1, 3, 7):
        program = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path(module.__file__).parents[2]
        )
        assert program.stdout is not None
        with program.stdout:
            told = [int(program.stdout.readline()) for _ in range(told_lines)]
            os.kill(program.pid, signal.SIGKILL)
            told += [int(line) for line in program.stdout if line.endswith(b"\n")]
        program.wait()
        with opened(path) as vault, vault.transaction() as tx:
            one, other = tx.get(Thing, b"a"), tx.get(Thing, b"b")
        assert one == other
        assert one is not None
        assert int(one.text) >= told[-1]
