"""Virtual buses: all keys of one lie in one slot of a cluster, and masters share them evenly."""

from __future__ import annotations

from redis.crc import key_slot

from jobs.engine import consumer_group, progress, streams, volatile
from store.redis.buses import JOBS, SLOTS, TAGS, keys_in, slot_of
from tests.rows import checked_rows


def test_a_key_lies_in_the_slot_of_its_tag_as_redis_computes_it() -> None:
    for tag, key in zip(TAGS, keys_in("directory"), strict=True):
        assert key_slot(key) == slot_of(tag)


def test_all_keys_of_jobs_lie_in_one_slot() -> None:
    prefixes = (streams.PREFIX, volatile.LATER, volatile.CANCELLED, consumer_group.WORKER, consumer_group.EPOCH)
    for key in (*prefixes, progress.progress_of("1"), volatile.key_name("task", "{other}")):
        assert key_slot(key.encode()) == slot_of(*JOBS)


def test_masters_that_share_the_slots_evenly_share_the_buses_evenly() -> None:
    with checked_rows() as rows:
        for masters in (1, 2, 3, 4, 6, 8, 16):
            with rows.row(masters):
                found = [sum(slot_of(tag) * masters // SLOTS == each for tag in TAGS) for each in range(masters)]
                assert max(found) - min(found) <= 1, found
