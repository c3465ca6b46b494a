"""Whether this process runs, and whether it can serve."""

from __future__ import annotations

from server.http.answers.figures import HealthAnswer
from server.http.request_classes import RequestClass
from server.http.routing import Answer, Request, Routes

routes = Routes()

_OK = Answer(HealthAnswer("ok"))


@routes.open_read("GET /healthz", answer=HealthAnswer, request_class=RequestClass.HEALTH, is_hot=True)
async def healthz(_: Request[None]) -> Answer:
    """Tell that this process runs."""
    return _OK


@routes.open_read("GET /readyz", answer=HealthAnswer, request_class=RequestClass.HEALTH)
async def readyz(request: Request[None]) -> Answer:
    """Tell whether this process can serve: whether Postgres and Redis answer."""
    await request.services.pool.fetch("select 1")
    await request.services.redis.call("PING")
    return _OK
