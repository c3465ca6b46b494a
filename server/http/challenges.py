"""The challenge of an answer 401, which names the token that a client has to show (RFC 6750, section 3)."""

from __future__ import annotations

from typing import Final

from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_headers import Headers

_OF_BODIES: Final = frozenset((ProblemCode.WRONG_CREDENTIALS, ProblemCode.INVALID_EXTERNAL_TOKEN))
"""What the body shows is wrong, and not the token of the header."""

_BEARER: Final = 'Bearer realm="alo"'


def challenge(problem: Problem, headers: Headers) -> dict[str, str]:
    """The header for an answer 401, which tells a wrong token from a missing one; no header for other answers.

    :param headers: of the request.
    """
    if problem.status != 401:
        return {}
    shows_token = headers.get("authorization", "")[:7].lower() == "bearer "
    if not shows_token or problem.code in _OF_BODIES:
        return {"www-authenticate": _BEARER}
    return {"www-authenticate": f'{_BEARER}, error="invalid_token"'}
