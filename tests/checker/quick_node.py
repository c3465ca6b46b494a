"""A gateway that moves its cursors every 15 s or so, for runs that do not last for minutes.

A push comes, or a gap is noticed, within 6 s here: no commit waits in a run, so a lease is what takes longest.
"""

from __future__ import annotations

import sys

from server import tide
from server.__main__ import main

if __name__ == "__main__":
    tide.SETTLE_S, tide.INTERVAL_S = 10.0, 11.0  # type: ignore[misc]  # constants, but for this
    sys.exit(main())
