"""Messages that devices cannot decrypt: reports of them, the devices that are told, and the envelopes that heal them.

Each node asks Postgres every few seconds what was reported lately, so a report reaches the device that wrote the
message whichever process noted it, and whether that lives or not. A device that connects later is told right after its
welcome.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias

import structlog
import trio

from protocol.codec import encode
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import AddEnvelopes, ReportUndecryptable, Undecryptable
from protocol.limits import OPEN_REPORTS_PER_DEVICE, REPORTS_PER_MESSAGE
from protocol.undecryptable import REASONS, reason_fault_of
from server.delivery.hub import Hub, HubConnection
from server.gateway.connection import Connection
from server.gateway.recent_changes import follow_changes
from store.errors import NoIdentity, OwnMessage, QuotaExceeded, StoreError
from store.postgres.pool import Pool
from store.revisions import MessageChange
from store.undecryptable import UndecryptableReport, add_envelopes, report, reported_since, told_reports

log = structlog.get_logger(__name__)

POLL_S: Final = 2.0
"""A user waits for the message meanwhile."""

REMEMBERED_S: Final = 120.0
"""Looks overlap by less than this: a report that was told is not told again by a later look."""

HealingRequest: TypeAlias = AddEnvelopes | ReportUndecryptable

_LIMITS: Final = {limit.name: limit for limit in (REPORTS_PER_MESSAGE, OPEN_REPORTS_PER_DEVICE)}


class HealingHandler:
    """Takes reports and envelopes.

    :ivar reported: reports that were noted here, by reason.
    :ivar healed: requests that have added envelopes.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.reported: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.healed = 0

    async def add(self, connection: Connection, frame: AddEnvelopes) -> MessageChange:
        """The message, with its new envelopes, and the users to be told.

        :raises StoreError: as `store.undecryptable.add_envelopes` does.
        """
        change = await add_envelopes(
            self._pool,
            connection.user,
            connection.device,
            frame.conversation,
            frame.seq,
            frame.revision,
            frame.envelopes,
        )
        self.healed += change.is_new
        return change

    async def report(self, connection: Connection, frame: ReportUndecryptable) -> None:
        """
        :raises RequestError: if the reason is none of the list, the device is the writer or has no identity, or it has
            reported too often.
        :raises StoreError: as `store.undecryptable.report` does.
        """
        fault = reason_fault_of(frame.reason)
        if fault is not None:
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, fault)
        device = connection.device
        try:
            is_new = await report(
                self._pool, connection.user, device, frame.conversation, frame.seq, frame.revision, frame.reason
            )
        except OwnMessage:
            detail = "seq (key 3) must be that of a message which another device has written"
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, detail) from None
        except NoIdentity:
            detail = "this device must have an identity: publish one by put_keys first"
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, detail) from None
        except QuotaExceeded as error:
            limit = _LIMITS[error.quota]
            detail = f"limit {limit.name}: {limit.shown}"
            raise RequestError(frame.request, ErrorCode.QUOTA_EXCEEDED, detail, limit=limit) from None
        self.reported[frame.reason] += is_new


class OpenReports:
    """Tells the devices of this node what was reported lately.

    :ivar told: how many times a device was told.
    """

    def __init__(self, pool: Pool, hub: Hub) -> None:
        self._pool = pool
        self._hub = hub
        self._told: dict[tuple[int, bytes, int, bytes, int], float] = {}
        self.told = 0

    async def run(self) -> None:
        """Until cancelled."""
        await follow_changes(
            lambda ago_s: reported_since(self._pool, ago_s=ago_s), self._tell, poll_s=POLL_S, failed="reports_not_read"
        )

    async def welcome(self, connection: Connection) -> list[bytes]:
        """The frames that tell a device with its welcome which messages it is to heal; none if Postgres fails."""
        try:
            found = await told_reports(self._pool, connection.user, connection.device)
        except StoreError as error:
            log.warning("reports_not_read", error=str(error))
            return []
        return [_frame(each) for each in found if self._is_new(connection, each)]

    async def _tell(self, found: list[UndecryptableReport]) -> None:
        oldest = trio.current_time() - REMEMBERED_S
        self._told = {key: at for key, at in self._told.items() if at > oldest}
        for each in found:
            for connection in self._hub.of(each.sender):
                if each.is_for(connection.device) and self._is_new(connection, each):
                    connection.outbox.offer(_frame(each))
                    connection.outbox.flush()

    def _is_new(self, connection: HubConnection, report: UndecryptableReport) -> bool:
        """Whether the connection was not told yet; it counts as told from now on."""
        key = (connection.number, report.conversation, report.seq, report.device, report.at)
        if key in self._told:
            return False
        self._told[key] = trio.current_time()
        self.told += 1
        return True


def _frame(report: UndecryptableReport) -> bytes:
    return encode(
        Undecryptable(
            report.conversation, report.seq, report.user, report.device, report.revision or None, report.reason
        )
    )
