"""Replies of a cluster that name another server, and the table of masters, as bytes from its specification."""

from __future__ import annotations

from typing import Any

import pytest

from store.redis.redirects import Ask, ClusterDown, Moved, Redirect, TryAgain, is_whole, read_masters, read_redirect
from store.redis.servers import RedisError
from store.redis.url import Address

ASKED = Address("10.0.0.1", 6379)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", Moved(Address("127.0.0.1", 6381))),
        ("MOVED 3999 redis-1.internal:7000", Moved(Address("redis-1.internal", 7000))),
        ("MOVED 3999 fd00::7:6381", Moved(Address("fd00::7", 6381))),
        ("MOVED 3999 :6381", Moved(Address("10.0.0.1", 6381))),
        ("MOVED 3999 ?:6381", Moved(Address("10.0.0.1", 6381))),
        ("ASK 0 127.0.0.1:6381", Ask(Address("127.0.0.1", 6381))),
        ("ASK 16383 :6381", Ask(Address("10.0.0.1", 6381))),
        ("TRYAGAIN Multiple keys request during rehashing of slot", TryAgain()),
        ("CLUSTERDOWN The cluster is down", ClusterDown()),
        ("CLUSTERDOWN Hash slot not served", ClusterDown()),
        ("CROSSSLOT Keys in request don't hash to the same slot", None),
        ("ERR unknown command `MOVED 1 a:1`", None),
        ("OOM command not allowed when used memory > 'maxmemory'.", None),
        ("NOSCRIPT No matching script. Please use EVAL.", None),
        ("READONLY You can't write against a read only replica.", None),
        ("MOVED", None),
        ("", None),
    ],
)
def test_each_reply_tells_what_to_do_next(reply: str, expected: Redirect | None) -> None:
    assert read_redirect(RedisError(reply), ASKED) == expected


def node(host: bytes | None, port: int) -> list[Any]:
    return [host, port, b"0123456789abcdef", []]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([[0, 16_383, node(b"a", 1)]], ["a:1", "a:1", "a:1"]),
        ([[0, 99, node(b"a", 1), node(b"b", 2)], [100, 16_383, node(b"c", 3)]], ["a:1", "c:3", "c:3"]),
        ([[100, 100, node(b"c", 3)], [0, 99, node(b"a", 1)]], ["a:1", "c:3", None]),
        ([[0, 99, node(b"", 1)], [101, 16_383, node(None, 2)]], ["10.0.0.1:1", None, "10.0.0.1:2"]),
        ([], [None, None, None]),
    ],
)
def test_the_master_of_each_slot_is_found(ranges: list[Any], expected: list[str | None]) -> None:
    found = read_masters(ranges, [0, 100, 16_383], ASKED)
    assert [None if each is None else str(each) for each in found] == expected


def test_a_server_that_sees_too_few_others_says_so() -> None:
    assert is_whole(b"cluster_state:ok\r\ncluster_slots_assigned:16384\r\n")
    assert not is_whole(b"cluster_state:fail\r\ncluster_slots_assigned:16384\r\n")
