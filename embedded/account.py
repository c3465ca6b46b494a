"""The user under which the services run: never root."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

_UNUSED_ID = 65534


@dataclass(frozen=True)
class SystemAccount:
    """An unprivileged user. Root starts services as this user."""

    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Whether the mode bits let this user read and execute the path, and enter every folder above it.

        If the path is a link, this includes every folder above its target.
        """
        folders = {*path.absolute().parents, *path.resolve().parents}
        return self._may(path, 0o5) and all(self._may(folder, 0o1) for folder in folders)

    def own(self, folder: Path) -> None:
        """Make this user the owner of the folder and all files below it.

        Raises OSError where root may not do that (some containers and network file systems).
        """
        os.chown(folder, self.uid, self.gid)
        for parent, folders, files in os.walk(folder):
            for name in folders + files:
                os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)

    def _may(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return stat.S_IMODE(status.st_mode) >> shift & wanted == wanted


def account_for(data: Path) -> SystemAccount | None:
    """The account for the service of this data: None for the calling user, an unprivileged account if that is root.

    Postgres refuses to run as root, and a Redis without a password would lend root's file access to every user of the
    machine. If an ordinary user owns the data, the service runs as that user.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (status := data.stat()).st_uid != 0:
        return SystemAccount(status.st_uid, status.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return SystemAccount(_UNUSED_ID, _UNUSED_ID)
    return SystemAccount(nobody.pw_uid, nobody.pw_gid)
