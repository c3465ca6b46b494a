"""Pushes of changed device sets to conversations of few participants. Others find the change by `sync`, or by the error
of a send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocol.codec import encode
from protocol.frames import DevicesChanged
from store.keys import DeviceSetChange
from store.redis.entries import AddressedPush


def pushes_of(changes: Iterable[DeviceSetChange], cause: bytes = b"") -> Iterator[AddressedPush]:
    """
    :param cause: the user whose request made the changes.
    """
    for each in changes:
        frame = DevicesChanged(each.conversation, each.version, [each.user], each.since)
        yield AddressedPush(each.conversation, 0, encode(frame), each.participants, cause=cause)
