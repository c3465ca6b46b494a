"""The cost that each user may cause on this node: one budget for all connections of a user.

Cost is counted in microseconds of the node's processor, about: a fixed part for each frame, bytes, and the pushes that
a request causes (`protocol.limits`, COST_*). A connection checks the budget before it serves a request; it charges
the pushes of a send before its commit, and other pushes and answers once they are known, which may put the user into
debt. Until the debt is repaid the server refuses the user's requests, which is cheap. From a client that goes on all
the same, the server stops reading for a while.

A budget also lets a user's connections take turns: see `wait_turn`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import trio

from protocol import limits
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from server.transport.admission import Rate, TokenBucket

PAUSE_AFTER_S: Final = 1.0
"""After a refusal the connection stops reading until no more than this is left of the debt: each refusal adds to it."""

LONGEST_PAUSE_S: Final = 10.0
"""A connection that does not read hears no ping, and counts as silent after 60 s."""

TURN_COST: Final = 2_000
"""A user's connections serve so much in one turn, such as 20 requests or 100 refusals, which take about a millisecond;
then all other tasks have theirs. A send of others waits for some four turns on its way."""

LOOK_UPS_AT_ONCE: Final = 2
"""Look-ups of one user that run at the same time, so that one user leaves most of the node's connections to Postgres to
the others; and requests about files, which leave the object store to the others. Each connection has one of each at a
time anyway."""

_BAD_FRAMES: Final = Rate(limits.BAD_FRAMES_PER_S, limits.MAX_BAD_FRAMES)


class LookUps:
    """Look-ups of one user, of which `LOOK_UPS_AT_ONCE` run at a time."""

    __slots__ = ("_ended", "_running")

    def __init__(self) -> None:
        self._running = 0
        self._ended: trio.Event | None = None

    async def begin(self) -> None:
        """Wait until fewer than `LOOK_UPS_AT_ONCE` run; call `end` after it."""
        while self._running >= LOOK_UPS_AT_ONCE:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()
        self._running += 1

    def end(self) -> None:
        self._running -= 1
        if self._ended is not None:
            self._ended.set()
            self._ended = None


class Budget:
    """One user's budget. Everything but the two waits is synchronous.

    Like `TokenBucket`, it keeps the time when it will be full again. A user may go on as long as anything is left,
    so a request that costs more than a whole budget is served, and paid for by waiting.

    :ivar connections: of the user, on this node.
    :ivar look_ups, transfers: the user's look-ups, and requests about files.
    """

    __slots__ = ("_bad_frames", "_full_at", "_turn", "_turn_cost", "connections", "look_ups", "transfers")

    def __init__(self) -> None:
        self._full_at = 0.0
        self._turn_cost = 0
        self._bad_frames: TokenBucket | None = None
        self._turn: trio.Lock | None = None
        self.look_ups = LookUps()
        self.transfers = LookUps()
        self.connections = 0

    def take(self, now: float, cost: int) -> float:
        """Charge this cost if the user is not in debt.

        :param now: in seconds, by Trio's clock.
        :returns: 0.0 if it was charged; else in how many seconds the user will be out of debt.
        """
        wait_s = self._full_at - limits.MAX_COST_AT_ONCE / limits.MAX_COST_PER_S - now
        if wait_s > 0:
            return wait_s
        self.charge(now, cost)
        return 0.0

    def charge(self, now: float, cost: int) -> None:
        """Charge this cost, whatever is left."""
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + cost / limits.MAX_COST_PER_S
        self._turn_cost += cost

    def charge_pushes(self, now: float, users: int, frame_bytes: int) -> None:
        """Charge the pushes of one frame to this number of users."""
        self.charge(now, cost_of_pushes(users, frame_bytes))

    def debt_s(self, now: float) -> float:
        """In how many seconds the user will be out of debt; 0 or less if the user has none."""
        return self._full_at - limits.MAX_COST_AT_ONCE / limits.MAX_COST_PER_S - now

    def is_full(self, now: float) -> bool:
        """Whether the user has caused nothing that is still counted."""
        return self._full_at <= now and (self._bad_frames is None or self._bad_frames.is_full(now))

    def take_bad_frame(self, now: float) -> bool:
        """Count an unknown, invalid or unexpected frame; false if there were too many."""
        if self._bad_frames is None:
            self._bad_frames = TokenBucket(_BAD_FRAMES)
        return not self._bad_frames.take(now)

    @property
    def turn_is_over(self) -> bool:
        """Whether the user's connections have served enough for this turn: call `wait_turn`."""
        return self._turn_cost >= TURN_COST

    async def wait_turn(self) -> None:
        """Let all other tasks run; then the user has another turn, of which one connection makes use. The user's
        connections wait for each other, so all of them together have one turn while the others have one."""
        if self._turn is None:
            self._turn = trio.Lock()
        async with self._turn:
            await trio.lowlevel.checkpoint()
            self._turn_cost = 0

    async def wait_paid(self) -> None:
        """Wait until the user is out of debt, a second at most."""
        debt_s = self.debt_s(trio.current_time())
        if debt_s > 0:
            await trio.sleep(min(debt_s, PAUSE_AFTER_S))


def in_debt(request: int, debt_s: float) -> RequestError:
    """The refusal of a request whose user will be out of debt in `debt_s` seconds."""
    limit = limits.COST_PER_USER
    detail = f"limit {limit.name}: {limit.shown}"
    retry_after_ms = math.ceil(debt_s * 1000)
    return RequestError(request, ErrorCode.RATE_LIMITED, detail, limit=limit, retry_after_ms=retry_after_ms)


def cost_of_pushes(users: int, frame_bytes: int) -> int:
    """The cost of pushing a frame of this size to so many users."""
    return users * limits.COST_OF_PUSH + users * frame_bytes // limits.PUSHED_BYTES_PER_COST


class Budgets:
    """The budgets of the users who are connected, or were until a moment ago: a budget outlives the last connection
    until it is full, so a user who comes back gains nothing by that."""

    def __init__(self) -> None:
        # Not a dict: finding its first key walks over all deleted keys before it.
        self._budgets: OrderedDict[bytes, Budget] = OrderedDict()
        self._left: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._budgets)

    def enter(self, user: bytes) -> Budget:
        """The user's budget, for one more connection. Call `leave` once for each call."""
        budget = self._budgets.get(user)
        if budget is None:
            budget = self._budgets[user] = Budget()
        budget.connections += 1
        self._left.pop(user, None)
        return budget

    def leave(self, user: bytes, now: float) -> None:
        """A connection of the user has ended."""
        budget = self._budgets[user]
        budget.connections -= 1
        if not budget.connections:
            self._left[user] = None
        # Each call adds at most one user without connections, so looking at two is enough for the table to shrink.
        for _ in range(min(2, len(self._left))):
            oldest = next(iter(self._left))
            if not self._budgets[oldest].is_full(now):
                self._left.move_to_end(oldest)
                continue
            del self._left[oldest], self._budgets[oldest]
