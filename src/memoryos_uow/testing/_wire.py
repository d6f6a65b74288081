"""What a child tells the explorer while it runs, so that it is known after its death."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL: Final = "MEMORYOS_UOW_EXPLORER_FD"
"""The environment variable that holds the descriptor of the explorer's socket."""
READY: Final = b"\n"
"""What a child sends when it has nothing more to do of its own."""
GO: Final = b"g"
"""What the explorer sends to a child that may begin."""


def acknowledge(text: str) -> None:
    """Tell the oracle that the scenario has promised `text` to somebody, such as "order 7 is accepted".

    Call it where the program would answer its user. What was acknowledged outlives the process at once, without a
    buffer: it is sent out of it, by a system call that is counted apart from those that change files.
    Outside an exploration it does nothing, so a scenario can also be run by itself.
    """
    tell({"acknowledged": text})


def tell(message: dict[str, Any]) -> None:
    """Send one line to the explorer, if there is one."""
    if CHANNEL in os.environ:
        with _channel() as channel:
            channel.sendall(json.dumps(message).encode() + b"\n")


def wait_for_go() -> None:
    """Say that all is ready and wait until the explorer lets this process go; without one there is no point in living.

    strace is attached meanwhile: what this process does before is not part of the scenario.
    """
    with _channel() as channel:
        channel.sendall(READY)
        if channel.recv(1) != GO:
            os._exit(1)


@contextmanager
def _channel() -> Iterator[socket.socket]:
    # Always the same descriptor, by which the explorer knows the call; so it is let go of, not closed.
    channel = socket.socket(fileno=int(os.environ[CHANNEL]))
    try:
        yield channel
    finally:
        channel.detach()
