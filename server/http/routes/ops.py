"""Routes: figures for operators."""

from __future__ import annotations

from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http.frame import answer
from server.http.ops import Ops, Route


def add_ops(app: QuartTrio, ops: Ops) -> None:
    def add(path: str, route: Route) -> None:
        @app.get(path, endpoint=path)
        async def shown() -> ResponseReturnValue:
            ops.admit(request.headers.get("Authorization", ""))
            return answer(await route(request.args))

    for path, route in ops.routes().items():
        add(path, route)
