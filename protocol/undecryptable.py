"""Why a device could not decrypt a message: the names that `report_undecryptable` may give."""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[str, str]] = {
    "no_envelope": "The message came without an envelope for this device, though its sender knew the device.",
    "no_session": "The envelope belongs to a session that this device does not know, or no longer knows.",
    "used_key": "The envelope needs a one-time key or a ratchet key that this device has used or dropped.",
    "no_content_key": "The content is encrypted with a session key that this device has not got.",
    "damaged": "The envelope or the content fails its authentication.",
    "unsupported": "This device does not know the format, or the cipher suite.",
    "other": "None of these.",
}
"""Name -> meaning. A closed list, since a metric has them as labels; a later version may have more."""


def reason_fault_of(reason: str) -> str | None:
    """What is wrong with the reason of a request, as a sentence for its developer; None if nothing is."""
    return None if reason in REASONS else f"reason (key 140) must be one of {', '.join(REASONS)}"
