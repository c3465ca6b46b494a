"""Whether this process runs, and whether it can serve."""

from __future__ import annotations

from server.http.answers.figures import HealthAnswer
from server.http.problem_codes import ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.request_classes import RequestClass
from server.http.routing import Answer, Request, Routes

routes = Routes()

_OK = Answer(HealthAnswer("ok"))


@routes.open_read("GET /healthz", answer=HealthAnswer, request_class=RequestClass.HEALTH, is_hot=True)
async def healthz(request: Request[None]) -> Answer:
    """Tell whether this process lives: whether anything but a restart helps it."""
    return _answer(request.services.health.liveness_fault())


@routes.open_read("GET /readyz", answer=HealthAnswer, request_class=RequestClass.HEALTH)
async def readyz(request: Request[None]) -> Answer:
    """Tell whether this process can serve: whether Postgres and Redis answer, and it has not been told to stop."""
    return _answer(await request.services.health.readiness_fault())


def _answer(fault: str) -> Answer:
    """
    :raises Problem: if there is a fault.
    """
    if fault:
        raise Problem(ProblemCode.UNAVAILABLE, fault, retry_after_s=RETRY_AFTER_S)
    return _OK
