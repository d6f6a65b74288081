"""The explored program: units that publish, a relay to a receiver that is a file, and what must hold afterwards."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger, UnitOfWorkError
from memoryos_uow.testing import acknowledge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow import Message

SPACE: Final = "s"
UNITS: Final = {"1": (("a", "k"), ("b", "k")), "2": (("c", "k"), ("d", None)), "3": (("e", "l"), ("f", "k"))}


def open_ledger(world: Path) -> Ledger:
    """Open the world's ledger as its mark says."""
    return Ledger.open(world / "memory.db", durability="normal" if (world / "normal").exists() else "full")


def setup(world: Path) -> None:
    """An empty ledger and an empty receiver."""
    with open_ledger(world) as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n0", {})
    receiver = os.open(world / "received", os.O_WRONLY | os.O_CREAT, 0o600)
    for descriptor in (receiver, os.open(world, os.O_RDONLY)):
        os.fsync(descriptor)
        os.close(descriptor)


def setup_normal(world: Path) -> None:
    """The same for a ledger whose commits do not wait for the disk."""
    (world / "normal").touch()
    setup(world)


def receive(world: Path, message: Message) -> None:
    """Take a message for good: a line that is on the disk when this returns."""
    line = json.dumps([message.dedup_key, message.topic, message.key, message.payload])
    receiver = os.open(world / "received", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(receiver, f"{line}\n".encode())
        os.fsync(receiver)
    finally:
        os.close(receiver)


def relaying(world: Path) -> None:
    """Publish in three units; relay after the second and at the end."""
    with open_ledger(world) as ledger:
        for name, messages in UNITS.items():
            try:
                with ledger.unit(space_id=SPACE, band="GREEN", correlation_id=name) as uow:
                    uow["notes"].create(f"n{name}", {})
                    for topic, key in messages:
                        uow.publish(topic, {"of": name}, key=key)
                acknowledge(name)
            except UnitOfWorkError:
                continue
            if name != "1":
                ledger.relay(lambda message: receive(world, message), until_empty=True)


def oracle(world: Path, acknowledged: Sequence[str]) -> None:
    """Everything that was committed arrives, nothing else does, and each key in order."""
    with open_ledger(world) as ledger:
        committed = {unit.uow_id: str(unit.correlation_id) for unit in ledger.units(status="committed")}
        if not (world / "normal").exists():
            assert set(acknowledged) <= set(committed.values()), "acknowledged and lost"
        assert all(_received(world, committed)), "received what was never committed"
        # Attempts that failed are put off, and a failed disk is a failed attempt.
        ledger.outbox.retry([entry.message_id for entry in ledger.outbox.messages()])
        report = ledger.relay(lambda message: receive(world, message), until_empty=True)
        assert (report.left, ledger.outbox.messages()) == (0, [])
        received = _received(world, committed)
    for uow_id, name in committed.items():
        for number, (topic, key) in enumerate(UNITS.get(name, ())):
            assert [f"{uow_id}:{number}", topic, key, {"of": name}] in received, f"lost: {topic}"
    first_times = list(dict.fromkeys(topic for _, topic, key, _ in received if key == "k"))
    assert first_times == sorted(first_times), f"out of order: {first_times}"
    assert len({line[0] for line in received}) == len({line[1] for line in received}), "repeated under another key"


def _received(world: Path, committed: dict[str, str]) -> list[Any]:
    """The receiver's whole lines; None for one of a unit that was never committed."""
    lines = (world / "received").read_text().split("\n")[:-1]
    found = []
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # the receiver died while it wrote, before it had taken the message
        found.append(message if message[0].partition(":")[0] in committed else None)
    return found
