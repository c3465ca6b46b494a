"""What the tested client has written: messages, edits, deletions, each done once however often it comes. Sans-IO."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from protocol.codes import ErrorCode
from protocol.conformance.talk import DEVICE, ME, Talk
from protocol.conformance.values import Fields
from protocol.frames import Delete, Done, Edit, Error, Message, Reply, Request, Revised, Send, Sent, Tombstone

RETRY_AFTER_MS: Final = 100
"""Of errors after which a client may repeat its request."""


class Violation(Exception):
    """The client has broken a rule that holds at any time.

    :ivar section: of the specification, which has the rule.
    """

    def __init__(self, section: str, detail: str) -> None:
        super().__init__(f"SPEC {section}: {detail}")
        self.section = section


class OwnWrites:
    """The requests of the client that have changed a conversation."""

    def __init__(self) -> None:
        self._attempts: dict[bytes, Send] = {}
        self._sent: dict[bytes, Message] = {}
        self._edits: dict[tuple[bytes, int, int], tuple[Edit, Revised]] = {}

    def forget(self) -> None:
        """The database is another one, and knows none of them."""
        self._sent.clear()
        self._edits.clear()

    def note_attempt(self, request: Send) -> None:
        """A `send` has come, whatever becomes of it.

        :raises Violation: if it differs from an earlier attempt with its `temp_id`.
        """
        attempt = replace(request, request=0, devices_version=None, kinds=None, wants_devices=None)
        if self._attempts.setdefault(request.temp_id, attempt) != attempt:
            raise Violation("4.2", "the client sends two different messages with one `temp_id`")

    def forget_attempt(self, request: Request) -> None:
        """A request was refused for good: the `temp_id` of a `send` may come with another content."""
        if isinstance(request, Send):
            self._attempts.pop(request.temp_id, None)

    def answer(self, talk: Talk, request: Send | Edit | Delete) -> Reply:
        """Do what the client asks for, unless it is done; returns the reply."""
        if isinstance(request, Send):
            return self._send(talk, request)
        entry = talk.entries[request.seq - 1] if 1 <= request.seq <= talk.last_seq else None
        if entry is None:
            return refuse(request, ErrorCode.UNKNOWN_MESSAGE)
        if isinstance(request, Edit):
            return self._edit(talk, entry, request)
        talk.delete(request.seq)
        return Done(request.request)

    def _send(self, talk: Talk, request: Send) -> Reply:
        message = self._sent.get(request.temp_id)
        if message is None and request.devices_version not in (None, talk.devices_version):
            self.forget_attempt(request)
            changed: Fields = {"devices_version": talk.devices_version, "changed_users": talk.others}
            return refuse(request, ErrorCode.DEVICES_CHANGED, **changed)
        if message is None:
            message = self._sent[request.temp_id] = talk.write(
                ME,
                request.content,
                device=DEVICE,
                temp_id=request.temp_id,
                content_type=request.content_type,
                reply_to=request.reply_to,
                is_quiet=bool(request.is_quiet),
                envelopes=dict(request.envelopes or ()),
            )
        return Sent(request.request, message.seq, message.message, message.created, None, message.quiet_count)

    def _edit(self, talk: Talk, entry: Message | Tombstone, request: Edit) -> Reply:
        key = (talk.id, request.seq, request.revision)
        if key in self._edits and self._edits[key][0].content == request.content:
            return replace(self._edits[key][1], request=request.request)
        if isinstance(entry, Tombstone):
            return refuse(request, ErrorCode.MESSAGE_DELETED)
        if entry.sender != ME:
            return refuse(request, ErrorCode.NOT_THE_SENDER)
        if (entry.revision or 0) != request.revision:
            return refuse(request, ErrorCode.REVISION_CONFLICT)
        edited = talk.edit(request.seq, request.content, DEVICE)
        revised = Revised(request.request, edited.revision or 0, edited.edited or 0)
        self._edits[key] = request, revised
        return revised


def refuse(request: Request, code: ErrorCode, **more: Any) -> Error:
    """The error that answers a request."""
    retry_after_ms = RETRY_AFTER_MS if code.info.retry else None
    return Error(request.request, code.value, code.info.meaning, **{"retry_after_ms": retry_after_ms, **more})
