"""`ops user NAME`: an account, its devices, what they lack, its notifiers and its limits."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from protocol import limits
from runtime.commands import Rows
from runtime.config import Config
from server.cli.found_users import named_user
from server.cli.nodes import FoundNode, find_nodes
from server.cli.notice_verdicts import name_of
from server.cli.services import CommandAnswer, OperatorServices
from server.cli.shown import shown_id, shown_time
from server.http.guesses import name_key
from server.http.limits import bucket_of_user
from server.http.request_classes import LIMITS
from store import inspected_users as store
from store.errors import Unavailable
from store.inspected_users import InspectedDevice, InspectedNotifier, InspectedUser
from store.redis.client import Redis, RedisError
from store.redis.rates import guesses_made, seconds_until_full

REDIS_AWAY: Final = "Redis cannot be reached"


async def show_user(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """All that operators may know of a user.

    :raises CommandError: if there is no such user.
    """
    pool = services.pool
    user = await named_user(pool, options.words[0])
    account = await store.account_of(pool, user)
    nodes = await _nodes(services.redis, user)
    return CommandAnswer(
        {
            "account": _account_rows(account),
            "devices": _device_rows(await store.devices_of(pool, [user]), nodes),
            "behind": [
                {
                    "conversation": shown_id(each.conversation),
                    "last_seq": each.last_seq,
                    "delivered_seq": each.delivered,
                    "lacks": each.last_seq - each.delivered,
                    "by_device": shown_id(each.by),
                    "last_message": shown_time(each.active_at),
                }
                for each in await store.behind_of(pool, user)
            ],
            "notifiers": _notifier_rows(await store.notifiers_of(pool, [user])),
            "dead_jobs": [
                {"job": each.job, "task": each.task, "died": shown_time(each.died), "reason": each.reason}
                for each in await store.dead_jobs_of(pool, [user])
            ],
            "limits": await _limit_rows(services.redis, services.config, account, nodes),
        }
    )


async def _nodes(redis: Redis, user: bytes) -> list[FoundNode] | None:
    try:
        return await find_nodes(redis, [user])
    except (Unavailable, RedisError):
        return None


def _account_rows(account: InspectedUser) -> Rows:
    quiet = account.quiet
    hours = quiet and f"minute {quiet.from_minute} to {quiet.until_minute} of the day, {quiet.zone}"
    fields: dict[str, Any] = {
        "user": shown_id(account.user),
        "username": account.username,
        "created": shown_time(account.created),
        "suspended": shown_time(account.suspended),
        "deletion_due": shown_time(account.due),
        "deletes_messages": account.deletes_messages,
        "deleted": shown_time(account.deleted),
        "has_password": account.has_password,
        "external_issuer": account.issuer,
        "has_verified_address": account.has_address,
        "last_seen": shown_time(account.last_seen),
        "quiet_hours": hours,
        "read_at": shown_time(account.now),
    }
    return [{"field": name, "value": value} for name, value in fields.items()]


def _device_rows(devices: Sequence[InspectedDevice], nodes: Sequence[FoundNode] | None) -> Rows:
    held = [
        (node.lease.node.hex(), connection)
        for node in nodes or []
        if node.state is not None
        for connection in node.state.held
    ]
    rows: Rows = []
    for each in devices:
        here = [(node, connection) for node, connection in held if connection.device == each.device]
        rows.append(
            {
                "device": shown_id(each.device),
                "name": each.name,
                "client": each.client,
                "state": each.state,
                "last_used": shown_time(each.last_used),
                "expires": shown_time(each.expires),
                "node": REDIS_AWAY if nodes is None else ", ".join(node for node, _ in here) or None,
                "connected_s": round(max(one.connected_s for _, one in here)) if here else None,
                "waiting_bytes": sum(one.waiting_bytes for _, one in here) if here else None,
                "is_slow": any(one.is_lagging for _, one in here) if here else None,
            }
        )
    return rows


def _notifier_rows(notifiers: Sequence[InspectedNotifier]) -> Rows:
    return [
        {
            "notifier": name_of(each),
            "device": shown_id(each.device),
            "failing_since": shown_time(each.failing_since),
            "failures": each.failures,
            "last_error": each.last_error,
            "told": shown_time(each.told),
            "job": each.job,
            "due": shown_time(each.due),
        }
        for each in notifiers
    ]


async def _limit_rows(redis: Redis, config: Config, account: InspectedUser, nodes: Sequence[FoundNode] | None) -> Rows:
    """What the user has used of each limit that is counted for all processes, or by a node that holds the user. Each
    `web` counts the other classes of requests alone."""
    rows = [
        _limit("new conversations in 24 h", account.starts, config.new_conversations_per_day),
        _limit("bytes of files", account.stored_bytes, config.attachment_bytes_per_user or None),
    ]
    for node in nodes or []:
        for each in node.state.budgets if node.state is not None else []:
            name = node.lease.node.hex()
            rows.append(_limit(f"connections to node {name}", each.connections, each.most_connections))
            used = round(each.used * limits.MAX_COST_AT_ONCE)
            rows.append(_limit(f"cost on node {name}", used, limits.MAX_COST_AT_ONCE, each.debt_s))
    try:
        return [*rows, *await _counted_in_redis(redis, config, account)]
    except (Unavailable, RedisError):
        return [*rows, {**_limit("requests over HTTP", None, None), "note": REDIS_AWAY}]


async def _counted_in_redis(redis: Redis, config: Config, account: InspectedUser) -> Rows:
    rows: Rows = []
    for each, of_class in LIMITS.items():
        if of_class.user is None or not of_class.is_exact:
            continue
        per_s = of_class.user.per_s * config.rate_limit_factor
        burst = max(1, round(of_class.user.burst * config.rate_limit_factor))
        full_in_s = await seconds_until_full(redis, bucket_of_user(each, account.user))
        used = full_in_s * per_s
        wait_s = max(0.0, full_in_s - (burst - 1) / per_s)
        rows.append(_limit(f"requests of the class {each.value}", round(used, 1), burst, wait_s))
    guesses, wait_s = await guesses_made(redis, name_key(account.username))
    return [*rows, _limit("wrong passwords of strangers", guesses, None, wait_s)]


def _limit(name: str, used: float | None, most: float | None, wait_s: float = 0.0) -> dict[str, Any]:
    """
    :param most: None: there is no limit.
    :param wait_s: until the user may go on; 0: now.
    """
    return {"limit": name, "used": used, "most": most, "wait_s": round(wait_s, 1), "note": None}
