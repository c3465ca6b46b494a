"""The weights in headers such as `Accept` and `Accept-Encoding` (RFC 9110, section 12.4.2)."""

from __future__ import annotations

import re
from typing import Final

_WEIGHT: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch


def weight_of(parameter: str) -> float | None:
    """The weight that a parameter such as `q=0.5` gives, 0 to 1; None if the parameter is wrong, or a different one.

    :param parameter: in lower case, without the spaces around it.
    """
    found = _WEIGHT(parameter)
    return None if found is None else float(found[1])
