"""Rules for the keys of a `put_keys` that concern several of them."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.requests import OneTimeKey


def key_fault_of(
    one_time_keys: Sequence[OneTimeKey], last_resort_keys: Sequence[OneTimeKey], *, is_anew: bool = False
) -> str | None:
    """What is wrong with the keys that a device uploads, as a sentence for its developer; None if nothing is.

    The checks of single fields have passed. A key that is repeated as it is counts once.
    """
    if is_anew and not one_time_keys:
        return (
            "is_anew needs one_time_keys, which take the place of those before: upload new keys, or leave is_anew out"
        )
    one_time: dict[tuple[str, int], bytes] = {}
    for kind, number, key in one_time_keys:
        if one_time.setdefault((kind, number), key) != key:
            return f"one_time_keys must give each key of a kind a number of its own: two of {kind} have {number}"
    last_resort: dict[str, tuple[int, bytes]] = {}
    for kind, number, key in last_resort_keys:
        if last_resort.setdefault(kind, (number, key)) != (number, key):
            return f"last_resort_keys must have one key of each kind: there are two of {kind}"
    return None
