"""``memoryos-uow outbox``: seeing, retrying and dropping from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Band, Ledger, MessageRejected, RelayReport
from tests import schema_files
from tests.cli.tools import HOSTILE_KEY, invoke
from tests.relay.kit import Sink, publish
from tests.units import MARKER, everything

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one parked message of each band."""
    place = tmp_path / "m.db"
    with Ledger.open(place) as ledger:
        for band in Band:
            publish(ledger, f"topic-{MARKER}", key=f"key-{MARKER}-{band}", space=f"space-{MARKER}", band=band)
        ledger.relay(Sink({f"topic-{MARKER}": [MessageRejected(MARKER) for _ in Band]}), until_empty=True)
    return place


def ids(path: Path) -> list[str]:
    """The ids of what is in the outbox."""
    with Ledger.open(path) as ledger:
        return [entry.message_id for entry in ledger.outbox.messages()]


def test_of_a_message_no_more_is_shown_than_its_band_allows(path: Path) -> None:
    """GREEN all, AMBER no key, RED and BLACK neither topic, key, space, size nor text; payloads never."""
    text = invoke("outbox", "list", path)
    green, amber, red, black = text.stdout.splitlines()[1:]
    assert (green.count(MARKER), amber.count(MARKER), red.count(MARKER), black.count(MARKER)) == (2, 1, 0, 0)
    assert text.stdout.count("parked") == 4
    green, amber, red, black = json.loads(invoke("outbox", "list", path, "--json").stdout)
    assert green["key"].startswith("key-")
    assert (amber["key"], amber["error_message"]) == (None, MessageRejected.summary)
    for entry in (red, black):
        assert {name for name, value in entry.items() if value is not None} == {
            "message_id",
            "state",
            "band",
            "created_ts",
            "attempts",
            "error_type",
            "error_ts",
        }


def test_looking_changes_nothing(path: Path) -> None:
    """No row is different afterwards."""
    before = everything(path)
    assert invoke("outbox", "list", path, "--parked", "--topic", "x").stderr == "Note: No message matches.\n"
    invoke("outbox", "list", path)
    assert everything(path) == before


def test_a_hostile_key_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """What looks like text and is not goes out escaped; control characters are not even published."""
    with Ledger.open(tmp_path / "m.db") as ledger:
        publish(ledger, "t", key="".join(c for c in HOSTILE_KEY if c >= " "))
    shown = invoke("outbox", "list", tmp_path / "m.db").stdout
    assert "\u202e" not in shown
    assert "\\u202e" in shown


def test_the_list_says_where_it_ends(path: Path, tmp_path: Path) -> None:
    """Both when there is more, and when there is nothing; a ledger without an outbox has an empty one."""
    assert "the oldest 2" in invoke("outbox", "list", path, "--limit", "2").stderr
    assert invoke("outbox", "list", path, "--limit", "0").stderr == ""
    old = tmp_path / "old.db"
    schema_files.make_1_0_0(old, 1)
    result = invoke("outbox", "list", old)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Note: The outbox is empty.\n")


def test_messages_are_retried(path: Path) -> None:
    """One by its id, then all; what is not there is told."""
    first = ids(path)[0]
    result = invoke("outbox", "retry", path, "--message", first, "--message", "unknown:0")
    assert (result.exit_code, result.stdout) == (0, "1 message to be delivered again.\n")
    assert "1 of them are not there to retry" in result.stderr
    assert json.loads(invoke("outbox", "retry", path, "--parked", "--json").stdout) == {"retried": 3}
    with Ledger.open(path) as ledger:
        assert ledger.relay(Sink(), until_empty=True) == RelayReport(delivered=4)


def test_messages_are_dropped(path: Path) -> None:
    """One by its id, then all."""
    first, *rest = ids(path)
    assert invoke("outbox", "drop", path, "--message", first).stdout == "1 message dropped.\n"
    assert ids(path) == rest
    assert json.loads(invoke("outbox", "drop", path, "--parked", "--json").stdout) == {"dropped": 3}
    assert ids(path) == []


@pytest.mark.parametrize("what", ["retry", "drop"])
@pytest.mark.parametrize("which", [(), ("--parked", "--message", "x:0"), ("--message", "x")])
def test_which_messages_must_be_said(path: Path, what: str, which: tuple[str, ...]) -> None:
    """Neither none nor two ways of saying it, nor something that is no id; nothing is changed."""
    before = everything(path)
    assert invoke("outbox", what, path, *which).exit_code == 2
    assert everything(path) == before
