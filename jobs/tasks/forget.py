"""The tasks `forget`, `expired_tokens` and `old_security_events` delete what nothing needs.

These are idempotency keys so old that retries are refused, envelopes of old messages, reports that messages could not
be decrypted, changes so old that a cursor from before them is refused, names of deleted users that others may take,
invitations that have expired, jobs that died long ago, counts of mails and of claims before their window, tokens that
ended long ago, and security events older than the deployment keeps them.
"""

from __future__ import annotations

from typing import Final

from jobs.engine.job import Job
from jobs.tasks.batches import in_batches
from store.account_deletions import forget_usernames
from store.emails import forget_mailboxes, forget_sent
from store.envelopes import forget_envelopes
from store.invitations import forget_invitations
from store.jobs import forget_dead
from store.keys import end_expired_identities, forget_claims
from store.messages import forget_temp_ids
from store.password_resets import forget_resets
from store.postgres.pool import Pool
from store.revisions import forget_revisions
from store.security_events import forget_events
from store.tokens import forget_tokens
from store.undecryptable import forget_reports

BATCH: Final = 2000
"""Keys in one transaction: some 20 ms."""

ENVELOPES: Final = 200
"""Rows of envelopes in one transaction: each may have 192 KiB, in some 100 pieces of its own table."""

TOKENS: Final = 500
"""Devices in one transaction. Each write of a device writes its indexes too."""

DEAD_JOBS_DAYS: Final = 90
"""How long operators can inspect dead jobs."""


class Forgetting:
    """The handlers. Two runs of each may overlap.

    :param events_days: days that security events are kept.
    """

    def __init__(self, pool: Pool, *, events_days: int) -> None:
        self._pool = pool
        self._events_days = events_days

    async def forget(self, job: Job) -> None:
        """Delete old keys, envelopes, reports, changes, names, invitations, dead jobs, counts of mails and of claims,
        and the identities of expired devices, until none are left or the time is over."""
        await in_batches(job, self._forget_some, "rows checked")

    async def expired_tokens(self, job: Job) -> None:
        """Delete the tokens of devices that expired or were revoked, until none are left or the time is over."""
        await in_batches(job, lambda: forget_tokens(self._pool, limit=TOKENS), "tokens")

    async def old_security_events(self, job: Job) -> None:
        """Delete old security events, until none are left or the time is over."""
        await in_batches(job, lambda: forget_events(self._pool, days=self._events_days, limit=BATCH), "events")

    async def _forget_some(self) -> int:
        return (
            await forget_temp_ids(self._pool, limit=BATCH)
            + await forget_revisions(self._pool, limit=BATCH)
            + await forget_envelopes(self._pool, limit=ENVELOPES)
            + await forget_reports(self._pool, limit=BATCH)
            + await forget_resets(self._pool, limit=BATCH)
            + await forget_usernames(self._pool, limit=BATCH)
            + await forget_invitations(self._pool, limit=BATCH)
            + await forget_dead(self._pool, days=DEAD_JOBS_DAYS, limit=BATCH)
            + await forget_mailboxes(self._pool, limit=BATCH)
            + await forget_sent(self._pool, limit=BATCH)
            + await forget_claims(self._pool, limit=BATCH)
            + await end_expired_identities(self._pool)
        )
