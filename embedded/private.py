"""Files that only their owner can read."""

import os
from pathlib import Path

from embedded.account import SystemAccount


def write_private(path: Path, text: str, account: SystemAccount | None = None) -> None:
    """Write a file of mode 0600 in place of a former one; it belongs to the account, if there is one.

    The file is new: another user who may write into the folder has neither opened it before nor made a link of it.
    """
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
