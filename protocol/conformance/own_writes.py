"""What the tested client has written: messages, edits, deletions, each done once however often it comes. Sans-IO."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from protocol.codes import ErrorCode
from protocol.conformance.devices import DoubleDevices
from protocol.conformance.talk import DEVICE, ME, Talk
from protocol.conformance.values import Fields, show
from protocol.frames import Delete, Done, Edit, Error, Message, Reply, Request, Revised, Send, Sent, Tombstone

RETRY_AFTER_MS: Final = 100
"""The pause that errors name whose request a client may repeat."""


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

    def answer(self, talk: Talk, request: Send | Edit | Delete, devices: DoubleDevices) -> Reply:
        """Do what the client asks for, unless it is done; returns the reply.

        :raises Violation: if the client says that it knows devices of which it was not told.
        """
        if isinstance(request, Send):
            return self._send(talk, request, devices)
        entry = talk.entries[request.seq - 1] if 1 <= request.seq <= talk.last_seq else None
        if entry is None:
            return refuse(request, ErrorCode.UNKNOWN_MESSAGE)
        if isinstance(request, Edit):
            return self._edit(talk, entry, request)
        talk.delete(request.seq)
        return Done(request.request)

    def _send(self, talk: Talk, request: Send, devices: DoubleDevices) -> Reply:
        message = self._sent.get(request.temp_id)
        if message is None and request.follows not in (None, talk.control_seq):
            self.forget_attempt(request)
            return refuse(request, ErrorCode.CONTROL_CONFLICT, control_seq=talk.control_seq)
        if message is None and request.devices_version is not None:
            if request.devices_version != talk.device_set.version:
                self.forget_attempt(request)
                return _refuse_version(talk, request, request.devices_version, devices)
            if untold := talk.device_set.untold(talk.others):
                raise Violation(
                    "19.10",
                    f"the client gives the devices_version {request.devices_version}, but was not told the devices of"
                    f" {show(untold)} since they have changed",
                )
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
                follows=request.follows,
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


def _refuse_version(talk: Talk, request: Send, version: int, devices: DoubleDevices) -> Error:
    changed = talk.device_set.changed_since(version, [ME, *talk.others])
    more: Fields = {"devices_version": talk.device_set.version, "changed_users": changed}
    if request.wants_devices:
        more["devices"], has_more = devices.page(changed, request.kinds)
        more["more"] = has_more or None
        if not has_more:
            talk.device_set.tell(changed)
    return refuse(request, ErrorCode.DEVICES_CHANGED, **more)


def refuse(request: Request, code: ErrorCode, **more: Any) -> Error:
    """The error that answers a request."""
    retry_after_ms = RETRY_AFTER_MS if code.info.retry else None
    return Error(request.request, code.value, code.info.meaning, **{"retry_after_ms": retry_after_ms, **more})
