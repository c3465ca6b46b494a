"""The virtual buses: parts of the keys, each of which lies on one server whole.

Where one server holds all keys there is one bus. Several servers, or the masters of a Redis Cluster, share 16: a user's
entry in the directory is on the bus of the user, a node's stream on that of the node. The tag in the braces puts all
keys of a bus into one slot of a cluster, so each script finds its keys together. The jobs have a tag of their own.

The tags are the smallest numbers whose slots lie one in each sixteenth of the 16,384 slots: masters that share the
slots evenly have the same number of buses, or one more or less (a test says for how many masters).
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

TAGS: Final = ("10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40")
JOBS: Final = ("jobs",)
"""The only tag of the connection that jobs use (`store.redis.client.Redis`)."""

SLOTS: Final = 16_384


def keys_in(name: str) -> tuple[bytes, ...]:
    """The key of this name on each bus."""
    return tuple(f"alo:{{{tag}}}:{name}".encode() for tag in TAGS)


def slot_of(tag: str) -> int:
    """The slot of all keys with this tag: CRC16 (XMODEM), as the specification of Redis Cluster says."""
    return crc_hqx(tag.encode(), 0) % SLOTS
