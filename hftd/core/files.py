"""A file replaced whole or not at all: whoever reads it, and a power cut, finds the old one or the new one. Cold."""

import contextlib
import os
from pathlib import Path

PRIVATE = 0o600
"""Mode of a file that is nobody else's."""


def replace_file(path: Path, data: bytes, mode: int = PRIVATE, like: Path | None = None) -> None:
    """Put `data` into a file, through to the disk, its name included. Raises OSError.

    mode: of the new file, less the umask. like: a file whose owner and mode it takes instead, where there is one.
    """
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)             # what a crash left, with whatever mode
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as file:
        if like is not None and like.exists():
            was = like.stat()
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fchmod(file.fileno(), was.st_mode & 0o777)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """See a directory's names through to the disk: else a power cut may leave a name on an old file. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
