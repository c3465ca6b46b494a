"""A node as it describes itself to an operator (`store.redis.questions`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import trio

from protocol import limits
from server.cluster.node import Node
from server.delivery.hub import Hub
from server.gateway.budgets import Budget
from server.gateway.connection import Connection
from store.redis.questions import ConnectionState, NodeState, UserState

MAX_HELD: Final = 1000
"""Connections in one answer, which then has some 100 KB."""

_BUDGET_S: Final = limits.MAX_COST_AT_ONCE / limits.MAX_COST_PER_S
"""A full budget, in seconds of a user's share."""


def describe(
    node: Node,
    hub: Hub,
    connections: Collection[Connection],
    users: Iterable[bytes],
    *,
    port: int,
    listening_since: float,
    clients: Mapping[str, int],
    queued_sends: int,
    fault: str,
) -> NodeState:
    """The state of this node now. Atomic (no checkpoint)."""
    now = trio.current_time()
    chosen = set(users)
    held = [each for each in connections if each.user in chosen][:MAX_HELD]
    budgets = {each.user: each.budget for each in held}
    return NodeState(
        node.id,
        socket.gethostname(),
        os.getpid(),
        port,
        now - listening_since,
        len(connections),
        len(hub.users()),
        dict(clients),
        sum(each.outbox.is_lagging for each in connections),
        sum(each.outbox.size for each in connections),
        sum(each.in_flight for each in connections),
        queued_sends,
        node.read_ms,
        node.catch_up.requests,
        fault,
        [_connection(each, now) for each in held],
        [_user(user, hub.count(user), budget, now) for user, budget in budgets.items()],
    )


def _connection(each: Connection, now: float) -> ConnectionState:
    return ConnectionState(
        each.user,
        each.device,
        each.client,
        now - each.registered_at if each.registered_at else 0.0,
        now - each.heard_at,
        each.outbox.size,
        each.outbox.is_lagging,
        each.in_flight,
    )


def _user(user: bytes, connections: int, budget: Budget, now: float) -> UserState:
    debt_s = budget.debt_s(now)
    used = max(0.0, 1.0 + debt_s / _BUDGET_S)
    return UserState(user, connections, limits.MAX_USER_CONNECTIONS, used, max(0.0, debt_s))
