"""The sentences of `protocol/SPEC.md` and the groups of `protocol/alo.cddl` that list frames, numbers and names.

`tests/test_docs.py` compares the tables of SPEC.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from protocol import features, limits
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import PUSHES, REPLIES, REQUESTS, Bye, Frame, Hello, Key, Ping, Type, name_of
from protocol.numbers import (
    EXPERIMENTAL_CLOSE_CODES,
    EXPERIMENTAL_KEYS,
    EXPERIMENTAL_PUSH_TYPES,
    EXPERIMENTAL_REPLY_TYPES,
    EXPERIMENTAL_REQUEST_TYPES,
    KEYS,
    PUSH_TYPES,
    REPLY_TYPES,
    REQUEST_TYPES,
)
from protocol.requests import BatchedRequest, QueuedRequest

PROTOCOL = Path(__file__).parents[2] / "protocol"
SPEC = re.sub(r"\s+", " ", (PROTOCOL / "SPEC.md").read_text())
CDDL = (PROTOCOL / "alo.cddl").read_text()

KINDS = [
    (REQUESTS, REQUEST_TYPES, EXPERIMENTAL_REQUEST_TYPES),
    (REPLIES, REPLY_TYPES, EXPERIMENTAL_REPLY_TYPES),
    (PUSHES, PUSH_TYPES, EXPERIMENTAL_PUSH_TYPES),
]


def runs(numbers: Iterable[int]) -> str:
    """Numbers as SPEC.md lists them: "3, 4, 7 to 9 and 11"."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(numbers), None]:
        if run and number != run[-1] + 1:
            parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
            run = []
        if number is not None:
            run.append(number)
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def test_runs_are_listed_as_a_reader_expects() -> None:
    assert runs([3]) == "3"
    assert runs([11, 3, 4, 7, 8, 9]) == "3, 4, 7 to 9 and 11"


def test_spec_says_which_types_and_keys_are_reserved() -> None:
    types = {number for _, kind, experimental in KINDS for number in {*kind} - {*experimental}} - {*Type}
    keys = {*KEYS} - {*EXPERIMENTAL_KEYS} - {*Key}
    assert f"Reserved for later versions: types {runs(types)}; keys {runs(keys)}." in SPEC


def test_spec_says_which_types_are_of_which_kind() -> None:
    requests, replies, pushes = (f"{kind[0]} to {kind[-1]}" for _, kind, _ in KINDS)
    assert f"Types {requests} are requests (client to server), {replies} replies, {pushes} pushes" in SPEC


def test_spec_says_which_numbers_are_for_experiments() -> None:
    types = runs(number for *_, experimental in KINDS for number in experimental)
    codes = runs(EXPERIMENTAL_CLOSE_CODES)
    assert f"Types {types}, keys {runs(EXPERIMENTAL_KEYS)}, close codes {codes}, and names that begin with `x_`" in SPEC


def test_no_number_or_name_of_the_protocol_is_one_for_experiments() -> None:
    for structs, kind, experimental in KINDS:
        assert {int(struct.TYPE) for struct in structs} <= {*kind} - {*experimental}
    assert {*Key} <= {*KEYS} - {*EXPERIMENTAL_KEYS}
    assert not {code.value for code in CloseCode} & {*EXPERIMENTAL_CLOSE_CODES}
    names = [code.value for code in ErrorCode] + features.NAMES + [name for name, _ in limits.told()]
    assert not [name for name in names if name.startswith("x_")]


def test_every_request_is_queued_or_batched_or_answered_at_once_and_spec_says_which() -> None:
    """Section 10.3. A new request has to be put into `QueuedRequest` or `BatchedRequest` of `protocol/requests.py`."""
    queued, batched = get_args(QueuedRequest), get_args(BatchedRequest)
    assert sorted(map(name_of, (*queued, *batched, Hello, Ping, Bye))) == sorted(map(name_of, REQUESTS))
    assert f"10.3 {listed(queued)} wait in one queue for each connection" in SPEC
    assert f"It serves {listed(batched)} in batches, side by side with the queue, and answers `ping` at once" in SPEC


def listed(structs: Iterable[type[Frame]]) -> str:
    """Frames in a sentence, in the order of their types."""
    names = [f"`{name_of(struct)}`" for struct in sorted(structs, key=lambda struct: struct.TYPE)]
    return f"{', '.join(names[:-1])} and {names[-1]}"


@pytest.mark.parametrize(("group", "structs"), [("from-client", REQUESTS), ("from-server", (*REPLIES, *PUSHES))])
def test_the_grammar_lists_every_frame_in_the_group_of_its_direction(
    group: str, structs: tuple[type[Frame], ...]
) -> None:
    [rule] = re.findall(rf"^{group} = (.*(?:\n    .*)*)", CDDL, re.MULTILINE)
    assert re.split(r"\s*/\s*", rule) == [name_of(struct).replace("_", "-") for struct in structs]
