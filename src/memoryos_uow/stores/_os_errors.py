"""The operating system's errors in this library's words.

Promise: the text names the store and what could not be done, never a file: in a file's name may be the digest of
something that is easy to guess.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from memoryos_uow.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

# What may be over when the same unit is tried again. EIO is not among these: after a failed fsync the kernel may call
# the next one a success although the bytes are lost.
_PASSING: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY", "EINTR", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)
)


@contextmanager
def translated(store: str, what: str) -> Iterator[None]:
    """Turn an OSError of the block into ours; `what` says what could not be done, such as ``read its directory``."""
    try:
        yield
    except OSError as error:
        cause = OSError(error.errno, error.strerror)
        passing = error.errno in _PASSING
    else:
        return
    problem = StoreUnavailable if passing else StoreError
    raise problem(
        f"The store {store!r} could not {what}: {cause.strerror or 'unknown error'}.",
        hint="Nothing of the unit was written. "
        + ("Make room, then run the unit again." if passing else "Check the directory and its disk."),
        store=store,
    ) from cause
