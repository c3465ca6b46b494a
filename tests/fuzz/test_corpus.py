"""Each run of the tests checks the inputs that fuzzing has kept; and the corpus, mutators and samples are complete."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from protocol.frames import PUSHES, REPLIES, REQUESTS
from tests.fuzz import states
from tests.fuzz.corpus import FOLDER, read_corpus
from tests.fuzz.frames import EXAMPLES, items_of
from tests.fuzz.plan import plan, read_plan
from tests.fuzz.targets import TARGETS

MAX_INPUTS = 300
MAX_BYTES = 200 * 1024


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]
    with target.open() as check:
        for data in [*target.seeds, *read_corpus(name)]:
            check(data)


def test_the_corpus_is_small_and_of_targets_that_there_are() -> None:
    files = sorted(FOLDER.iterdir())
    assert [file.stem for file in files] == sorted(TARGETS)
    for file in files:
        inputs = read_corpus(file.stem)
        assert len(set(inputs)) == len(inputs) > 0
        assert max(map(len, inputs)) <= TARGETS[file.stem].max_bytes
    assert sum(len(read_corpus(name)) for name in TARGETS) <= MAX_INPUTS
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES


@pytest.mark.parametrize("name", TARGETS)
def test_mutators_give_inputs_of_any_seed(name: str) -> None:
    """libFuzzer would report a mutator that raises as a finding."""
    target, chance = TARGETS[name], random.Random(1)
    data = target.seeds[0]
    for _ in range(300):
        data = target.mutate(chance.choice((data, *target.seeds)), target.max_bytes, chance, _damage(chance))
        data = data[: target.max_bytes]


def _damage(chance: random.Random) -> Callable[[bytes, int], bytes]:
    """A stand-in for libFuzzer's mutator."""

    def damage(data: bytes, max_size: int) -> bytes:
        at = chance.randrange(len(data) + 1)
        return (data[:at] + chance.randbytes(chance.randrange(4)) + data[at + chance.randrange(4) :])[:max_size]

    return damage


def test_a_plan_is_read_as_it_was_written() -> None:
    assert read_plan(plan(b"body", 3, b"\x00\x80")) == (3, (1, 64), b"body")
    assert list(read_plan(plan(b"abcdef", 0, b"\x00\x01")).pieces()) == [b"a", b"bc", b"def"]
    assert list(read_plan(plan(b"abcdef", 0, b"\x00\x01")).pieces(repeat=True)) == [b"a", b"bc", b"d", b"ef"]
    assert list(read_plan(plan(b"abc")).pieces(repeat=True)) == [b"abc"]


def test_there_is_an_example_of_each_frame() -> None:
    """The mutators and the target `states` use these examples; fuzzing would never try a request without one."""
    shown = {item[0] for data in (*EXAMPLES.from_client, *EXAMPLES.from_server) for item in items_of(data)}
    assert {int(struct.TYPE) for struct in REQUESTS} <= shown
    assert {type(frame) for frame in states.SAMPLES.values()} == {*REQUESTS}
    missing = {struct.__name__ for struct in (*REPLIES, *PUSHES) if int(struct.TYPE) not in shown}
    assert not missing


def test_the_bytes_of_the_states_target_mean_the_same_whatever_requests_are_added() -> None:
    """If a new request moved the bytes, the inputs of the corpus would change their meaning."""

    assert all(number == states.SAMPLES[number].TYPE for number in states.SAMPLES)
    assert (states.WELCOME, states.DRAIN) == (65, 136)
    meaningless = [byte for data in read_corpus("states") for byte in data if byte not in states.ACTIONS]
    assert not meaningless
