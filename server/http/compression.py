"""Compression of answers: the coding that a client accepts, and the compressed forms of a body (`docs/http.md`).

Each coding has one level, the fastest (decision 30): higher ones save at most 3 % more, and cost 2 to 10 times as much.
The longest answer takes 3 ms, so no thread is needed. Equal bodies have equal forms, in every process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import brotli  # type: ignore[import-untyped]
from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from server.http.weights import weight_of

Coding: TypeAlias = Literal["zstd", "br", "gzip"]

MIN_BYTES: Final = 1024
"""The longest body that is not compressed: with its headers it fits into one packet of a network."""

LEAST_SAVING: Final = 0.1
"""The share of a body that its compressed form must save; a client pays for less by decompressing it."""

PROBED_BYTES: Final = 4096
LEAST_PROBED: Final = 16 * 1024
"""The size of a sample that tells whether a body shrinks, and the size of the least body that is worth two samples."""

# The compressor has buffers and no state between calls; a new one for each call takes 15 us.
_ZSTD: Final = zstd.ZstdCompressor(level=1)

CODINGS: Final[dict[Coding, Callable[[bytes], bytes]]] = {
    "zstd": lambda body: _ZSTD.compress(body, zstd.ZstdCompressor.FLUSH_FRAME),
    "br": lambda body: brotli.compress(body, quality=1),
    # 3 to 15 times as fast as zlib.
    "gzip": lambda body: isal_zlib.compress(body, 1, wbits=31),
}
"""Codings in the order of preference: each saves more than the next, and costs less."""


class Choice(NamedTuple):
    """The coding of an answer.

    :ivar coding: None: the body goes out as it is.
    :ivar must_code: the client refuses bodies as they are (`identity;q=0`), also short ones.
    """

    coding: Coding | None
    must_code: bool


_NO_CODING: Final = Choice(None, False)


def chosen(accept_encoding: str) -> Choice:
    """The coding that a client likes best, and of several the first of `CODINGS`.

    A client that accepts nothing which the server has gets bodies as they are (RFC 9110, section 15.5.7, leaves the
    choice), and so does one that says nothing.

    :param accept_encoding: the header of that name; empty if it is absent.
    """
    return _chosen(accept_encoding) if accept_encoding else _NO_CODING


@lru_cache(maxsize=256)
def _chosen(accept_encoding: str) -> Choice:
    weights = _weights(accept_encoding)
    others = weights.get("*", 0.0)
    weight, coding = 0.0, None
    for each in CODINGS:
        if weights.get(each, others) > weight:
            weight, coding = weights.get(each, others), each
    # Without a weight of its own, the body as it is remains acceptable, and is liked least.
    if coding is None or weights.get("identity", 0.0) > weight:
        return _NO_CODING
    return Choice(coding, weights.get("identity", weights.get("*")) == 0)


def _weights(accept_encoding: str) -> Mapping[str, float]:
    """Codings of the header -> their weights. Entries with a wrong weight are left out."""
    weights: dict[str, float] = {}
    for entry in accept_encoding.lower().split(","):
        name, _, parameter = (part.strip() for part in entry.partition(";"))
        weight = weight_of(parameter or "q=1")
        if weight is not None:
            weights[name] = weight
    return weights


def compressed(body: bytes, choice: Choice, *, may_be_dense: bool) -> bytes | None:
    """The body in the chosen coding; None if it goes out as it is, because it is short or would hardly shrink.

    :param may_be_dense: the body may consist of ciphertext. In JSON ciphertext is base64, which shrinks by a
        quarter; in CBOR it is bytes, which do not shrink.
    """
    if choice.coding is None:
        return None
    if choice.must_code:
        return CODINGS[choice.coding](body)
    if len(body) <= MIN_BYTES or (may_be_dense and _is_dense(body)):
        return None
    form = CODINGS[choice.coding](body)
    return form if len(form) <= len(body) * (1 - LEAST_SAVING) else None


def _is_dense(body: bytes) -> bool:
    """Whether two samples hardly shrink. A sample shrinks less than the body, which repeats itself more often."""
    if len(body) < LEAST_PROBED:
        return False
    for start in (len(body) // 4, len(body) * 3 // 4):
        sample = body[start : start + PROBED_BYTES]
        if len(CODINGS["zstd"](sample)) < len(sample) * (1 - LEAST_SAVING / 2):
            return False
    return True


class CompressedForms:
    """The compressed forms of a body that is kept: each is made when a client asks for it first.

    Together they are not longer than the body, so that a cache that counts the body twice counts enough.
    """

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[Coding, bytes | None] = {}

    def of(self, body: bytes, choice: Choice, *, may_be_dense: bool) -> bytes | None:
        """Like `compressed`.

        :param body: the same each time.
        """
        coding = choice.coding
        if coding is None or choice.must_code:
            return compressed(body, choice, may_be_dense=may_be_dense)
        if coding in self._forms:
            return self._forms[coding]
        form = compressed(body, choice, may_be_dense=may_be_dense)
        if form is not None and len(form) + self.size() > len(body):
            self._forms.clear()
        self._forms[coding] = form
        return form

    def size(self) -> int:
        """The bytes of all forms."""
        return sum(len(form) for form in self._forms.values() if form is not None)
