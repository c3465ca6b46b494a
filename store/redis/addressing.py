"""Which nodes an entry goes to: users are looked up in the directory and grouped by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from store.redis.client import Redis
from store.redis.directory import locate_some, locate_watchers
from store.redis.entries import AddressedPush, encode_presence_hint, encode_presence_recheck, encode_pushes

MAX_KNOWN: Final = 20_000
"""Users whose nodes a process remembers, in some 4 MB. Beyond that it begins anew: each then waits for one look-up."""


class Whereabouts:
    """The nodes that held users when these were last looked up. Synchronous.

    Most users are where they were for the message before, so their pushes can be written there at once, while the users
    are looked up again. The look-up decides: a node that was not known gets its entry after it, and an entry for a node
    that a user has left finds no connection there.
    """

    def __init__(self) -> None:
        self._nodes_of: dict[bytes, tuple[bytes, ...]] = {}

    def of(self, pushes: Iterable[AddressedPush]) -> dict[bytes, tuple[bytes, ...]]:
        """For each user of these pushes the nodes that are known."""
        known = self._nodes_of
        return {user: known.get(user, ()) for push in pushes for user in push.users}

    def learn(self, found: Mapping[bytes, tuple[bytes, ...]]) -> dict[bytes, tuple[bytes, ...]]:
        """Users have been looked up; returns for each the nodes that were not known before."""
        known = self._nodes_of
        if len(known) + len(found) > MAX_KNOWN:
            self._nodes_of = {}
        new = {
            user: nodes if user not in known else tuple(node for node in nodes if node not in known[user])
            for user, nodes in found.items()
        }
        self._nodes_of.update(found)
        return new


def group_by_node(
    users: Iterable[bytes], nodes_of: Mapping[bytes, Iterable[bytes]], *, without: bytes = b""
) -> defaultdict[bytes, list[bytes]]:
    """Node -> those of these users that it holds.

    :param nodes_of: for each user the nodes.
    :param without: a node that is left out.
    """
    groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for user in users:
        for node in nodes_of[user]:
            if node != without:
                groups[node].append(user)
    return groups


async def address_pushes(
    redis: Redis,
    pushes: Sequence[AddressedPush],
    *,
    own: bytes = b"",
    everyone: Callable[[], Collection[bytes] | None] = lambda: None,
    whereabouts: Whereabouts | None = None,
) -> list[tuple[bytes, bytes]]:
    """One entry for each node that holds a user of these pushes: pairs (node, entry) for `store.redis.bus.publish`.

    :param own: the node that writes, which needs none.
    :param everyone: all nodes that live: they get the pushes of users whose bus does not answer, and drop those of
        users that they do not hold. None: not known.
    :param whereabouts: of users whose pushes have been written for the nodes that these name; they learn the others.
    :raises Unavailable, RedisError: if no bus answers, or one does not and the nodes are not known.
    """
    users = list({user for push in pushes for user in push.users})
    known = {} if whereabouts is None else whereabouts.of(pushes)
    located: dict[bytes, tuple[bytes, ...]] = {}
    nodes_of: dict[bytes, Collection[bytes]] = {}
    for user, found in zip(users, await locate_some(redis, users), strict=True):
        if isinstance(found, Exception):
            nodes = everyone()
            if nodes is None:
                raise found
            nodes_of[user] = [node for node in nodes if node not in known.get(user, ())]
        else:
            located[user] = found
    nodes_of |= located if whereabouts is None else whereabouts.learn(located)
    return entries_by_node(pushes, nodes_of, without=own) if any(nodes_of.values()) else []


def entries_by_node(
    pushes: Sequence[AddressedPush], nodes_of: Mapping[bytes, Iterable[bytes]], *, without: bytes = b""
) -> list[tuple[bytes, bytes]]:
    """One entry for each node that holds a user of these pushes: pairs (node, entry).

    :param nodes_of: for each user the nodes.
    :param without: a node that is left out.
    """
    by_node: defaultdict[bytes, list[tuple[AddressedPush, list[bytes]]]] = defaultdict(list)
    for push in pushes:
        for node, there in group_by_node(push.users, nodes_of, without=without).items():
            by_node[node].append((push, there))
    return [(node, encode_pushes(some)) for node, some in by_node.items()]


async def address_presence_hints(redis: Redis, users: Sequence[bytes], *, own: bytes) -> list[tuple[bytes, bytes]]:
    """For each node that watches some of these users, which have come or left: pairs (node, entry)."""
    watched = await _watched_by_node(redis, users, own)
    return [(node, encode_presence_hint(some)) for node, some in watched.items()]


async def address_presence_rechecks(redis: Redis, users: Sequence[bytes], *, own: bytes) -> list[tuple[bytes, bytes]]:
    """For each node that watches some of these users, whose watchers are to be checked again: pairs (node, entry)."""
    watched = await _watched_by_node(redis, users, own)
    return [(node, encode_presence_recheck(some)) for node, some in watched.items()]


async def _watched_by_node(redis: Redis, users: Sequence[bytes], own: bytes) -> Mapping[bytes, list[bytes]]:
    """Users whose bus does not answer are left out: the nodes that watch them poll."""
    found = zip(users, await locate_watchers(redis, users), strict=True)
    nodes_of = {user: () if isinstance(nodes, Exception) else nodes for user, nodes in found}
    return group_by_node(users, nodes_of, without=own)
