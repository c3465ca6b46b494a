"""Values of rows, in the form in which commands print them: the same for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID


def shown_time(at_us: int | None) -> str | None:
    """
    :param at_us: microseconds since 1970.
    """
    return None if at_us is None else f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def shown_id(id_: bytes | None) -> str | None:
    """The id of a user, device, conversation or message as text."""
    return None if id_ is None else str(UUID(bytes=id_))


def shown_span(seconds: float) -> str:
    """A length of time in its two largest units, such as `2 d 3 h`."""
    whole = round(seconds)
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    parts: list[tuple[int, str]] = []
    for name, size in units:
        if whole >= size or parts or size == 1:
            parts.append((whole // size, name))
            whole %= size
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count or len(parts) == 1) or "0 s"
