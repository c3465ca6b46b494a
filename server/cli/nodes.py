"""`ops node list`, `show` and `drain`: the nodes that Redis knows, and what each says of itself."""

from __future__ import annotations

import argparse
from typing import Any, Final, NamedTuple

from runtime.commands import CommandError, Rows, Sections, suggestion
from server.cli.operators import source_of_options
from server.cli.services import CommandAnswer, OperatorServices
from store import security_events
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.questions import NodeLease, NodeState, ask_nodes, ask_to_drain, leases
from store.security_events import Source

NO_ANSWER: Final = "no answer"
DEAD: Final = "dead"
SERVES: Final = "serves"


class FoundNode(NamedTuple):
    """A node: what Redis knows of it, and what it says of itself; None: it has not answered in time."""

    lease: NodeLease
    state: NodeState | None

    @property
    def status(self) -> str:
        """`serves`, `stopping` or another fault; `dead`: its lease has ended; `no answer`: it may hang."""
        if self.lease.lease_s < 0:
            return DEAD
        if self.state is None:
            return NO_ANSWER
        return self.state.fault or SERVES

    @property
    def behind_ms(self) -> int | None:
        """How far it is behind the newest entry of its stream, in ms; None if it has not answered."""
        return None if self.state is None else max(0, self.lease.newest_ms - self.state.read_ms)


async def find_nodes(redis: Redis, users: list[bytes] | None = None) -> list[FoundNode]:
    """All nodes that Redis knows.

    :param users: whose connections the nodes describe.
    :raises Unavailable, RedisError: if Redis does not answer.
    """
    found = await leases(redis)
    states = await ask_nodes(redis, [each.node for each in found if each.entries is not None], users or [])
    return [FoundNode(each, states.get(each.node)) for each in found]


async def list_nodes(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """A row for each node."""
    return CommandAnswer([_row(each) for each in await find_nodes(services.redis)])


async def show_node(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """All that is known of a node."""
    found = await _named(services.redis, options.node)
    state, lease = found.state, found.lease
    fields: dict[str, Any] = {**_row(found), "stream_entries": lease.entries}
    clients: Rows = []
    if state is not None:
        fields |= {
            "requests_in_flight": state.in_flight,
            "sends_queued": state.queued_sends,
            "outbox_bytes": state.waiting_bytes,
            "slow_readers": state.lagging,
            "catch_ups": state.catch_ups,
        }
        clients = [{"client": name, "connections": count} for name, count in sorted(state.clients.items())]
    sections: Sections = {
        "node": [{"field": name, "value": value} for name, value in fields.items()],
        "clients": clients,
    }
    return CommandAnswer(sections)


async def drain_node(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """Have a node stop, as SIGTERM does. The command does not wait until it has.

    :raises CommandError: if there is no such node, or it is dead.
    """
    found = await _named(services.redis, options.node)
    name = found.lease.node.hex()
    if found.status == DEAD:
        raise CommandError(f"node {name} is dead: its lease has ended, and the others remove it by themselves")
    await note_drain(services.pool, found.lease.node, source_of_options(options))
    if not await ask_to_drain(services.redis, found.lease.node):
        raise CommandError(f"node {name} cannot be told: its stream in Redis is gone; send its process SIGTERM instead")
    return CommandAnswer([{"node": name, "told": "drain"}])


async def note_drain(pool: Pool, node: bytes, source: Source) -> None:
    """Note in the audit log that an operator asks a node to stop."""
    await security_events.note(pool, "node_drained", None, source, {"node": node.hex()})


async def _named(redis: Redis, typed: str) -> FoundNode:
    """The node whose id begins so."""
    nodes = await find_nodes(redis)
    names = [each.lease.node.hex() for each in nodes]
    fitting = [each for each, name in zip(nodes, names, strict=True) if typed and name.startswith(typed.lower())]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        fit = " and ".join(each.lease.node.hex() for each in fitting)
        raise CommandError(f"{typed} is the beginning of several nodes: {fit}; give more of the id")
    hint = suggestion(typed, names) or "; python -m server ops node list shows them"
    raise CommandError(f"there is no node {typed}{hint}")


def _row(found: FoundNode) -> dict[str, Any]:
    lease, state = found.lease, found.state
    return {
        "node": lease.node.hex(),
        "status": found.status,
        "host": state and state.host,
        "pid": state and state.pid,
        "port": state and state.port,
        "up_s": state and round(state.up_s),
        "connections": state and state.connections,
        "users": state and state.users,
        "lease_s": round(lease.lease_s, 1),
        "behind_ms": found.behind_ms,
    }
