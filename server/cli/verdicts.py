"""Why a message has or has not arrived at a user, at a device: sentences from facts. No I/O.

Postgres holds marks by user, and not when a push was made. So these sentences say what follows from the marks, from the
connections that the nodes have now. `server.cli.notice_verdicts` does the same for notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from server.cli.nodes import NO_ANSWER, FoundNode
from server.cli.shown import shown_span, shown_time
from store.inspected_messages import InspectedConversation, InspectedMessage, InspectedRecipient
from store.inspected_users import InspectedDevice
from store.redis.questions import ConnectionState

SILENT_S: Final = 45.0
"""A client answers a ping every 30 s."""


class Verdict(NamedTuple):
    """
    :ivar state: one word for programs.
    :ivar why: one sentence for people, which says what to do where there is something to do.
    """

    state: str
    why: str


class HeldConnection(NamedTuple):
    """A connection of a device, and the node that holds it now."""

    node: str
    state: ConnectionState


class RecipientFacts(NamedTuple):
    """All that a verdict on a recipient depends on.

    :ivar nodes: those that the directory names for the user; None: Redis cannot be reached.
    :ivar held: the connections of the user; of nodes that have answered.
    :ivar now: when the facts were read, in microseconds since 1970, by Postgres' clock.
    """

    recipient: InspectedRecipient
    devices: Sequence[InspectedDevice]
    nodes: Sequence[FoundNode] | None
    held: Sequence[HeldConnection]
    now: int


def delivery(
    conversation: InspectedConversation, message: InspectedMessage, seq: int, facts: RecipientFacts
) -> Verdict:
    """Whether the message has arrived at a user; if not, why."""
    recipient = facts.recipient
    return (
        _not_for_this_user(conversation, message, seq, recipient)
        or _arrived(seq, recipient)
        or _kept_away(message, facts)
        or _on_its_way(message, facts)
    )


def _not_for_this_user(
    conversation: InspectedConversation, message: InspectedMessage, seq: int, recipient: InspectedRecipient
) -> Verdict | None:
    if recipient.part == "withheld":
        why = "the user who asked this one to take part is one whom they block, or they have declined: by design"
        return Verdict("withheld", why)
    if seq <= recipient.after_seq:
        return Verdict("joined_later", f"joined after seq {recipient.after_seq}: the message was sent to others")
    if recipient.left_seq is not None and seq > recipient.left_seq:
        return Verdict("left_before", f"had left, or was removed, after seq {recipient.left_seq}")
    if message.is_silent:
        return Verdict("blocked", "blocks the sender, and sees a tombstone: by design")
    if seq <= conversation.floor_seq:
        return Verdict("expired", "the message has expired for everyone")
    return None


def _arrived(seq: int, recipient: InspectedRecipient) -> Verdict | None:
    if seq <= recipient.read:
        return Verdict("read", "marked read")
    if seq <= recipient.delivered:
        return Verdict("delivered", "a device has marked it delivered; the user has not read it")
    if recipient.left_seq is not None:
        return Verdict("left", "has left, or was removed, without marking it delivered")
    return None


def _kept_away(message: InspectedMessage, facts: RecipientFacts) -> Verdict | None:
    recipient = facts.recipient
    if recipient.is_deleted:
        return Verdict("account_deleted", "the account was deleted")
    if recipient.is_suspended:
        return Verdict("suspended", "an operator has suspended the user (python -m server ops user unsuspend)")
    if recipient.is_closed:
        return Verdict("account_closed", "the user has asked to delete the account: no device is logged in")
    if not any(each.state == "good" for each in facts.devices):
        return Verdict("no_device", "no device of the user is logged in")
    if message.deleted is not None:
        return Verdict("deleted", "deleted for everyone: devices get a tombstone, which nothing marks")
    return None


def _on_its_way(message: InspectedMessage, facts: RecipientFacts) -> Verdict:
    if facts.nodes is None:
        return Verdict("unknown", "not marked; Redis cannot be reached, so whether a device is connected is not known")
    silent = [each.lease.node.hex() for each in facts.nodes if each.status == NO_ANSWER]
    if not facts.held and silent:
        why = f"node {silent[0]} holds the user by the directory, and does not answer: it may hang; look at its log"
        return Verdict("node_hangs", why)
    if not facts.held:
        last = max(each.last_used for each in facts.devices if each.state == "good")
        if last < message.created:
            return Verdict("away", f"no device is connected, and none has been since the message: last at {_at(last)}")
        return Verdict("away", f"no device is connected now; one was used at {_at(last)}, and has not marked it")
    if any(each.state.is_lagging for each in facts.held):
        return Verdict("slow_reader", "a device is connected and reads too slowly: it was told to fetch by a sync")
    if facts.recipient.asked_seq is not None:
        return Verdict(
            "request",
            f"a request (after seq {facts.recipient.asked_seq}): clients list it apart, and mark what is seen",
        )
    return Verdict(
        "not_marked",
        "a device is connected and has not marked it: the push was offered, or its sync has it; look at the client",
    )


def device(
    message: InspectedMessage, seq: int, recipient: InspectedRecipient, each: InspectedDevice, facts: RecipientFacts
) -> Verdict:
    """What is known of one device."""
    held = [one for one in facts.held if one.state.device == each.device]
    if each.state != "good":
        return Verdict("ended", f"its tokens are no longer good: {each.state}")
    if seq <= recipient.delivered and recipient.delivered_by == each.device:
        return Verdict("marked", "it moved the delivered mark last, so it has the message")
    if facts.nodes is None:
        return Verdict("unknown", "Redis cannot be reached: whether it is connected is not known")
    if not held:
        behind = each.last_used < message.created
        since = "not used since the message" if behind else "used since the message, if only by HTTP"
        return Verdict("away", f"not connected; {since}: last at {_at(each.last_used)}, up to an hour early")
    return _held(message, max(held, key=lambda one: one.state.connected_s), facts.now)


def _held(message: InspectedMessage, one: HeldConnection, now: int) -> Verdict:
    state = one.state
    if state.is_lagging:
        why = f"reads too slowly: {state.waiting_bytes} bytes wait, and it was told to fetch by a sync"
        return Verdict("slow_reader", why)
    if state.silent_s > SILENT_S:
        return Verdict("silent", f"nothing has come from it for {shown_span(state.silent_s)}: its network may be gone")
    if state.connected_s >= (now - message.created) / 1e6:
        why = f"connected since before the commit: the push was offered ({state.waiting_bytes} bytes wait)"
        return Verdict("pushed", why)
    return Verdict("synced", "connected since after the commit: its sync has the message")


def _at(us: int) -> str:
    return shown_time(us) or "-"
