"""Tables of cheap cases (`tests/rows.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rows import MOST_SHOWN, CheckedRows, checked_rows, each_row


def check_numbers(*numbers: int) -> None:
    with checked_rows() as rows:
        for number in numbers:
            with rows.row(f"number {number}"):
                assert number % 2 == 0
                with pytest.raises(ZeroDivisionError):
                    _ = number / (number if number == 4 else 0)


def test_a_table_whose_rows_are_right_passes() -> None:
    check_numbers(2, 6)


def test_each_wrong_row_is_named_with_its_line_and_its_error() -> None:
    with pytest.raises(AssertionError) as failed:
        check_numbers(2, 1, 4, 6)
    head, odd, *rest = str(failed.value).splitlines()
    first_line = check_numbers.__code__.co_firstlineno
    assert head == "2 of 4 rows are wrong"
    assert odd.startswith(f"number 1: AssertionError in check_numbers, line {first_line + 4}: assert (1 % 2) == 0")
    assert [line for line in rest if line.startswith("number")] == [rest[-1]]
    assert rest[-1].startswith("number 4: Failed in ")
    assert "DID NOT RAISE" in rest[-1]
    assert str(failed.value.__cause__).startswith("assert (1 % 2) == 0")


def test_a_table_with_many_wrong_rows_names_the_first_ones_and_counts_all() -> None:
    with pytest.raises(AssertionError) as failed:
        check_numbers(*range(1, 2 * MOST_SHOWN + 7, 2))
    said = str(failed.value)
    assert said.startswith(f"{MOST_SHOWN + 3} of {MOST_SHOWN + 3} rows are wrong")
    assert said.count("number ") == MOST_SHOWN


def test_the_name_of_a_row_is_short() -> None:
    rows = CheckedRows()
    with rows.row((int, "seq", b"x" * 100)):
        assert not rows
    with pytest.raises(AssertionError, match=r"\nint seq b'x{78}\.\.\.: AssertionError in "):
        rows.check()


async def test_an_async_table_shares_its_fixtures_and_names_each_wrong_row(tmp_path: Path) -> None:
    seen: list[tuple[Path, int]] = []

    @each_row("number", [1, 2, 3])
    async def check_odd(tmp_path: Path, number: int) -> None:
        seen.append((tmp_path, number))
        assert number % 2

    with pytest.raises(AssertionError, match=r"1 of 3 rows are wrong\n2: AssertionError in check_odd"):
        await check_odd(tmp_path=tmp_path)
    assert seen == [(tmp_path, number) for number in (1, 2, 3)]


def test_a_table_without_rows_fails() -> None:
    with pytest.raises(AssertionError, match="no rows"):
        check_numbers()


def fail_between_the_rows() -> None:
    with checked_rows() as rows:
        with rows.row("wrong"):
            raise ValueError
        raise KeyError


def test_an_error_between_the_rows_is_that_of_the_test() -> None:
    with pytest.raises(KeyError):
        fail_between_the_rows()


@pytest.fixture
def seen() -> list[int]:
    return []


@each_row(("first", "second"), [(1, 2), (3, 5)])
def keep_rows(first: int, second: int, seen: list[int]) -> None:
    seen.append(first)
    assert second - first == 1


def test_each_row_is_given_with_the_fixtures_and_a_wrong_one_is_named(seen: list[int]) -> None:
    with pytest.raises(AssertionError, match=r"1 of 2 rows are wrong\n3 5: AssertionError in keep_rows"):
        keep_rows(seen=seen)
    assert seen == [1, 3]


@each_row("number", [2, 4], ids=lambda number: f"number {number}")
def test_a_table_is_a_test_that_takes_the_other_fixtures(number: int, tmp_path: Path) -> None:
    (tmp_path / str(number)).touch(exist_ok=False)
    assert number % 2 == 0
