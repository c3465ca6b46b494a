"""A gateway that moves its cursors about every 15 s, for runs of less than a minute.

A push comes, or a device notices the gap, within 6 s here: no commit waits in a run, so a lease takes longest.
"""

from __future__ import annotations

import sys

from server.__main__ import main
from server.cluster import cursor_advance

if __name__ == "__main__":
    cursor_advance.SETTLE_S, cursor_advance.INTERVAL_S = 10.0, 11.0  # type: ignore[misc]  # constants, but for this
    sys.exit(main())
