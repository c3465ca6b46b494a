"""The types of bodies: the one that a client accepts, and the one that it sends."""

from __future__ import annotations

from typing import Final

from server.http.encoding import CBOR, JSON, Encoding
from server.http.weights import weight_of

_ENCODINGS: Final[dict[str, Encoding]] = {JSON: "json", CBOR: "cbor"}


def accepted(accept: str) -> Encoding:
    """The encoding of the answer: CBOR for a client that names it, and does not like JSON better.

    All other clients get JSON, also those that accept neither: an answer that a developer can read helps more than 406,
    and RFC 9110 (section 15.5.7) leaves the choice.

    :param accept: the header of that name.
    """
    if accept == CBOR:
        return "cbor"
    if "cbor" not in accept.lower():
        return "json"
    weights = _weights(accept)
    json = next((weights[name] for name in (JSON, "application/*", "*/*") if name in weights), 0.0)
    cbor = weights.get(CBOR, 0.0)
    return "cbor" if cbor and cbor >= json else "json"


def _weights(accept: str) -> dict[str, float]:
    """Types of an `Accept` header -> the greatest weight of each. Entries with a wrong weight are left out."""
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = weight_of(next((part for part in parameters if part.startswith("q=")), "q=1"))
        if weight is not None:
            weights[name] = max(weight, weights.get(name, 0.0))
    return weights


def sent(content_type: str) -> Encoding | None:
    """The encoding of a request's body; None if it is neither JSON nor CBOR.

    Without a type there is none: a page of a different origin can post such a body, which no browser asks about first.

    :param content_type: the header of that name. Its parameters say nothing about JSON (RFC 8259, section 11) or CBOR.
    """
    return _ENCODINGS.get(content_type.partition(";")[0].strip().lower())
