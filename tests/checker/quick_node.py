"""A gateway that moves its cursors every 15 s or so, for runs that do not last for minutes.

A push comes, or a gap is noticed, within 6 s here: no commit waits in a run, so a lease is what takes longest.
"""

from __future__ import annotations

import sys

from server.__main__ import main
from server.cluster import cursor_advance

if __name__ == "__main__":
    cursor_advance.SETTLE_S, cursor_advance.INTERVAL_S = 10.0, 11.0  # type: ignore[misc]  # constants, but for this
    sys.exit(main())
