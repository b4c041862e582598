"""A disk that is full, without filling one."""

import resource
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size: int):
    """Let no file of this process grow beyond a size: writes are cut short there, then refused, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
