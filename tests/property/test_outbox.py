"""Whatever fails, stops or lapses: each message arrives, and each key's messages for the first time in their order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow import Ledger, SinkUnavailable
from memoryos_uow._relay import rows as outbox_rows
from tests.relay.kit import Clock, publish

if TYPE_CHECKING:
    from memoryos_uow import Message

KEYS = st.sampled_from([None, "k", "l"])
SPACES = st.sampled_from(["s", "t"])
OUTCOMES = st.sampled_from(["taken", "taken", "taken", "failed", "unavailable", "taken and lost", "lapsed"])


@given(st.lists(st.tuples(SPACES, KEYS, st.integers(1, 3)), min_size=1, max_size=8), st.lists(OUTCOMES, max_size=30))
@settings(max_examples=30)
def test_every_message_arrives_and_keys_keep_their_order(
    units: list[tuple[str, str | None, int]], outcomes: list[str]
) -> None:
    """The sink takes, fails, is out of reach, takes and is then interrupted, or another relay dies with the message."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        left = list(outcomes)
        arrived: list[tuple[str, str | None, str]] = []
        with Ledger.open(Path(place) / "m.db") as ledger:
            for space, key, count in units:
                publish(ledger, *"abc"[:count], key=key, space=space)
            expected = _ids(ledger)

            def sink(message: Message) -> None:
                outcome = left.pop(0) if left else "taken"
                if outcome == "failed":
                    raise ValueError
                if outcome == "unavailable":
                    raise SinkUnavailable("down")
                arrived.append((message.space_id, message.key, message.dedup_key))
                if outcome == "taken and lost":
                    raise KeyboardInterrupt

            while ledger.outbox.messages():
                if left and left[0] == "lapsed":
                    left.pop(0)
                    _claim_and_die(ledger, clock)
                try:
                    ledger.relay(sink, until_empty=True, attempts=1_000)
                except KeyboardInterrupt:
                    continue
                finally:
                    clock.move(1_000)
        assert len(expected) == sum(count for _, _, count in units)
        assert {one[2] for one in arrived} == {one[2] for one in expected}
        for line in {(space, key) for space, key, _ in expected if key is not None}:
            seen = [dedup_key for space, key, dedup_key in arrived if (space, key) == line]
            assert list(dict.fromkeys(seen)) == [dedup_key for *whose, dedup_key in expected if tuple(whose) == line]


def _ids(ledger: Ledger) -> list[tuple[str | None, str | None, str]]:
    return [(entry.space_id, entry.key, entry.message_id) for entry in ledger.outbox.messages(limit=1_000)]


def _claim_and_die(ledger: Ledger, clock: Clock) -> None:
    """Claim two messages as a relay does that is never heard of again."""
    ledger._opened.coordinator.transactions.apart(
        lambda tx: outbox_rows.claim(tx, outbox_rows.claimable(tx, None, limit=2), 60_000)
    )
