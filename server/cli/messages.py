"""`ops message`: what became of a message, without its content: whom it was for, where it is, and why not."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from protocol.limits import ENVELOPE_DAYS, TEMP_ID_DAYS
from runtime.commands import CommandError, Rows
from server.cli import notice_verdicts, verdicts
from server.cli.found_users import named_user
from server.cli.nodes import FoundNode, find_nodes
from server.cli.notice_verdicts import NoticeFacts
from server.cli.services import CommandAnswer, OperatorServices
from server.cli.shown import shown_id, shown_time
from server.cli.verdicts import HeldConnection, RecipientFacts, Verdict
from store import inspected_messages as store
from store import inspected_users
from store.errors import Unavailable
from store.inspected_messages import InspectedConversation, InspectedMessage, InspectedRecipient
from store.redis.client import Redis, RedisError
from store.redis.directory import locate

MAX_RECIPIENTS: Final = 50
"""Recipients in one answer: those who lack the message come first. `--user` names another one."""

NOT_STORED: Final = "not stored; it follows from the marks and connections below"


class _Live(NamedTuple):
    """What Redis and the nodes say now.

    :ivar nodes: None: Redis cannot be reached.
    :ivar located: the nodes that the directory names, by user.
    """

    nodes: list[FoundNode] | None
    located: dict[bytes, tuple[bytes, ...]]

    def of(self, user: bytes) -> tuple[list[FoundNode] | None, list[HeldConnection]]:
        """The nodes that the directory names for a user, and the user's connections."""
        if self.nodes is None:
            return None, []
        named = [each for each in self.nodes if each.lease.node in self.located.get(user, ())]
        held = [
            HeldConnection(each.lease.node.hex(), connection)
            for each in self.nodes
            if each.state is not None
            for connection in each.state.held
            if connection.user == user
        ]
        return named, held


async def show_message(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """The timeline of a message, its recipients, their devices, and the notices.

    :raises CommandError: if there is no such message.
    """
    pool = services.pool
    place, seq = await _place(services, options.which)
    conversation = await store.conversation_of(pool, place)
    if conversation is None:
        raise CommandError(f"there is no conversation {shown_id(place)}")
    message = await store.message_of(pool, place, seq)
    if message is None:
        raise CommandError(_lacks(place, seq, conversation))
    user = None if options.user is None else await named_user(pool, options.user)
    if user == message.sender:
        raise CommandError(f"{options.user} is the sender of the message, and so no recipient of it")
    recipients = await store.recipients_of(pool, place, seq, message.sender, user=user, limit=MAX_RECIPIENTS)
    if user is not None and not recipients:
        raise CommandError(f"{options.user} takes no part in conversation {shown_id(place)}, and never did")
    live = await _live(services.redis, [each.user for each in recipients])
    facts = await _facts(services, recipients, live, conversation.now)
    judged = {each.recipient.user: verdicts.delivery(conversation, message, seq, each) for each in facts}
    notices = await _notices(services, message, seq, facts, judged, conversation.now)
    return CommandAnswer(
        {
            "message": _fields(place, seq, conversation, message, live),
            "timeline": _timeline(message, facts, judged, notices),
            "recipients": [_recipient_row(each, judged[each.recipient.user]) for each in facts],
            "devices": _device_rows(message, seq, facts),
            "notices": notices,
        }
    )


async def _place(services: OperatorServices, which: Sequence[str]) -> tuple[bytes, int]:
    """The conversation and the seq that the operator has named."""
    try:
        id_ = UUID(which[0])
    except ValueError:
        raise CommandError(f"{which[0]} is no id: give MESSAGE, or CONVERSATION and SEQ") from None
    if len(which) == 2:
        if not which[1].isascii() or not which[1].isdecimal() or not 1 <= int(which[1]) < 2**63:
            raise CommandError(f"SEQ must be a number of 1 or more, not {which[1]}")
        return id_.bytes, int(which[1])
    if len(which) > 2:
        raise CommandError("give MESSAGE, or CONVERSATION and SEQ")
    found = await store.place_of(services.pool, id_)
    if found is None:
        if await store.conversation_of(services.pool, id_.bytes) is not None:
            raise CommandError(f"{id_} is a conversation: give SEQ, too")
        raise CommandError(
            f"there is no message {id_}, or it is older than {TEMP_ID_DAYS} days or imported: then give"
            " CONVERSATION and SEQ, which its clients have"
        )
    return found


def _lacks(place: bytes, seq: int, conversation: InspectedConversation) -> str:
    name = f"conversation {shown_id(place)} has no message {seq}"
    if seq > conversation.last_seq:
        return f"{name}: its last one is {conversation.last_seq}; without `sent` the sender's client must send it again"
    if seq <= conversation.floor_seq:
        return f"{name} any longer: those up to {conversation.floor_seq} have expired"
    return f"{name}, though its last one is {conversation.last_seq}: was the database restored? (docs/backup.md)"


async def _live(redis: Redis, users: list[bytes]) -> _Live:
    try:
        return _Live(await find_nodes(redis, users), dict(zip(users, await locate(redis, users), strict=True)))
    except (Unavailable, RedisError):
        return _Live(None, {})


async def _facts(
    services: OperatorServices, recipients: Sequence[InspectedRecipient], live: _Live, now: int
) -> list[RecipientFacts]:
    devices = await inspected_users.devices_of(services.pool, [each.user for each in recipients])
    found = []
    for each in recipients:
        nodes, held = live.of(each.user)
        own = [device for device in devices if device.user == each.user]
        found.append(RecipientFacts(each, own, nodes, held, now))
    return found


async def _notices(
    services: OperatorServices,
    message: InspectedMessage,
    seq: int,
    facts: Sequence[RecipientFacts],
    judged: dict[bytes, Verdict],
    now: int,
) -> Rows:
    users = [each.recipient.user for each in facts]
    notifiers = await inspected_users.notifiers_of(services.pool, users)
    jobs = {each.user: each for each in await inspected_users.notice_jobs_of(services.pool, users)}
    dead = await inspected_users.dead_jobs_of(services.pool, users)
    queues = await store.queues_of(services.pool)
    rows: Rows = []
    for each in facts:
        user = each.recipient.user
        context = NoticeFacts(
            each.recipient,
            judged[user],
            [one for one in notifiers if one.user == user],
            jobs.get(user),
            [one for one in dead if one.user == user],
            queues,
            services.config.offline_notice_after_s,
            now,
        )
        for row in notice_verdicts.notices(message, seq, context):
            told = row.notifier.told if row.notifier else None
            rows.append(
                {
                    "user": each.recipient.username,
                    "notifier": notice_verdicts.name_of(row.notifier),
                    "state": row.verdict.state,
                    "told": shown_time(told or None),
                    "why": row.verdict.why,
                }
            )
    return rows


def _fields(
    place: bytes, seq: int, conversation: InspectedConversation, message: InspectedMessage, live: _Live
) -> Rows:
    fields: dict[str, Any] = {
        "conversation": shown_id(place),
        "seq": seq,
        "kind": conversation.kind,
        "message": shown_id(message.message),
        "sender": message.username,
        "sender_id": shown_id(message.sender),
        "last_seq": conversation.last_seq,
        "floor_seq": conversation.floor_seq,
        "nodes": "Redis cannot be reached" if live.nodes is None else len(live.nodes),
        "read_at": shown_time(conversation.now),
    }
    return [{"field": name, "value": value} for name, value in fields.items()]


def _timeline(
    message: InspectedMessage, facts: Sequence[RecipientFacts], judged: dict[bytes, Verdict], notices: Rows
) -> Rows:
    states = [judged[each.recipient.user].state for each in facts]
    marked = sum(state in ("delivered", "read") for state in states)
    accepted = "the gateway took it, by the gateway's clock" if message.accepted else "the id does not tell"
    events: list[tuple[str | None, str, str]] = [
        (shown_time(message.accepted), "accepted", accepted),
        (shown_time(message.created), "committed", "in Postgres, and acknowledged: it is not lost"),
    ]
    if message.is_quiet:
        events.append((None, "quiet", "its sender wants no notice of it, and it does not count as unread"))
    if message.is_silent:
        events.append((None, "silent", "the recipient blocks the sender: only the sender's devices have it"))
    else:
        events.append((None, "pushed", NOT_STORED))
    if message.enveloped is not None:
        events.append((None, "envelopes", f"for {message.enveloped} devices; they go after {ENVELOPE_DAYS} days"))
    if message.edited is not None:
        events.append((shown_time(message.edited), "edited", "the last edit"))
    if message.deleted is not None:
        by = "the sender" if message.deleted_by is None else f"administrator {shown_id(message.deleted_by)}"
        events.append((shown_time(message.deleted), "deleted", f"for everyone, by {by}"))
    events.append((None, "marked", f"by {marked} of {len(states)} recipients; {states.count('read')} have read it"))
    told = [row for row in notices if row["state"] == "told"]
    events += [(row["told"], "noticed", f"{row['user']}: {row['notifier']}") for row in told]
    return [{"at": at, "event": event, "detail": detail} for at, event, detail in events]


def _recipient_row(facts: RecipientFacts, verdict: Verdict) -> dict[str, Any]:
    each = facts.recipient
    return {
        "user": each.username,
        "part": each.part,
        "delivered_seq": each.delivered,
        "read_seq": each.read,
        "nodes": None if facts.nodes is None else ", ".join(node.lease.node.hex() for node in facts.nodes),
        "state": verdict.state,
        "why": verdict.why,
    }


def _device_rows(message: InspectedMessage, seq: int, facts: Iterable[RecipientFacts]) -> Rows:
    rows: Rows = []
    for each in facts:
        for device in each.devices:
            verdict = verdicts.device(message, seq, each.recipient, device, each)
            held = [one for one in each.held if one.state.device == device.device]
            rows.append(
                {
                    "user": each.recipient.username,
                    "device": shown_id(device.device),
                    "client": device.client,
                    "node": ", ".join(one.node for one in held) or None,
                    "connected_s": round(max(one.state.connected_s for one in held)) if held else None,
                    "last_used": shown_time(device.last_used),
                    "state": verdict.state,
                    "why": verdict.why,
                }
            )
    return rows
