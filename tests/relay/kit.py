"""What the tests of the outbox share: messages, sinks that fail when told, a clock that is set by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import _ambient
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from memoryos_uow import Ledger, Message


def publish(ledger: Ledger, *topics: str, key: str | None = None, space: str = SPACE, band: str = "GREEN") -> str:
    """Publish one message for each topic in one unit, its payload the topic; return the unit's id."""
    with ledger.unit(space_id=space, band=band) as uow:
        for topic in topics:
            uow.publish(topic, {"topic": topic}, key=key)
    return uow.uow_id


class Sink:
    """Takes messages, and raises what it was told to for some topics; each error is raised once, in order."""

    def __init__(self, errors: Mapping[str, Sequence[BaseException]] | None = None) -> None:
        self.errors = {topic: list(listed) for topic, listed in (errors or {}).items()}
        self.taken: list[Message] = []
        self.tried: list[str] = []

    def __call__(self, message: Message) -> None:
        self.tried.append(message.topic)
        if self.errors.get(message.topic):
            raise self.errors[message.topic].pop(0)
        self.taken.append(message)

    @property
    def topics(self) -> list[str]:
        """The topics of what was taken, in order."""
        return [message.topic for message in self.taken]


class Clock:
    """The library's wall clock, set by hand; jitter is always the largest, so that delays are known."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_ms = _ambient.unix_ms()
        patch.setattr(_ambient, "unix_ms", lambda: self.now_ms)
        patch.setattr(_ambient, "random_fraction", lambda: 1.0)

    def move(self, seconds: float) -> None:
        """Let time go by."""
        self.now_ms += int(seconds * 1000)
