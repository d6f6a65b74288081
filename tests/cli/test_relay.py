"""``memoryos-uow relay``: delivering from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from tests.cli.tools import COMMAND, environment, invoke, run
from tests.relay.kit import publish
from tests.relay.server import receiver
from tests.units import MARKER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with three messages."""
    place = tmp_path / "m.db"
    with Ledger.open(place) as ledger:
        publish(ledger, "a", "b", key="k")
        publish(ledger, "c", band="RED")
    return place


def test_messages_go_to_an_address(path: Path) -> None:
    """With the headers given, and Authorization from the environment; the end is told on stdout."""
    with receiver() as there:
        result = invoke(
            "relay",
            path,
            "--to",
            there.url,
            "--once",
            "--header",
            "X-From: me",
            env={"MEMORYOS_UOW_RELAY_AUTHORIZATION": "Bearer x"},
        )
    assert (result.exit_code, result.stdout) == (0, "3 messages delivered, 0 put off, 0 parked, 0 left.\n")
    assert [event["type"] for event in there.events] == ["a", "b", "c"]
    assert (there.requests[0][1]["X-From"], there.requests[0][1]["Authorization"]) == ("me", "Bearer x")


def test_messages_go_to_stdout_and_notes_do_not(path: Path) -> None:
    """One event per line; what was done is told on stderr."""
    result = invoke("relay", path, "--to", "-", "--once", "--topic", "a", "--topic", "c")
    assert result.exit_code == 0
    assert [json.loads(line)["type"] for line in result.stdout.splitlines()] == ["a", "c"]
    assert "2 messages delivered" in result.stderr


def test_what_is_parked_or_left_shows_in_the_exit_code(path: Path) -> None:
    """A rejected message, those behind it, and a receiver that is not there."""
    with receiver(lambda event: 400 if event["type"] == "a" else 200) as there:
        result = invoke("relay", path, "--to", there.url, "--once", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"delivered": 1, "retried": 0, "parked": 1, "left": 2}
    result = invoke("relay", path, "--to", there.url, "--once")
    assert (result.exit_code, result.stdout) == (1, "0 messages delivered, 0 put off, 0 parked, 2 left.\n")


def test_a_relay_works_until_it_is_told_to_end(path: Path) -> None:
    """It delivers what comes later too; SIGTERM ends it after the message at hand, with exit code 0."""
    with subprocess.Popen(
        [*COMMAND, "relay", str(path), "--to", "-"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert [json.loads(child.stdout.readline())["type"] for _ in range(3)] == ["a", "b", "c"]
        with Ledger.open(path) as ledger:
            publish(ledger, "later")
        assert json.loads(child.stdout.readline())["type"] == "later"
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (0, "")
    assert "4 messages delivered" in err
    with Ledger.open(path) as ledger:
        assert ledger.outbox.messages() == []


def test_a_reader_of_stdout_that_goes_away_ends_it_quietly(path: Path) -> None:
    """As with any command in a pipe; nothing is parked, and the message comes again."""
    with Ledger.open(path) as ledger:
        publish(ledger, *(f"t{number}" for number in range(200)))
    command = f"{' '.join(COMMAND)} relay {path} --to - | head -n 1"
    done = subprocess.run(command, shell=True, env=environment(), capture_output=True, text=True, check=True)  # noqa: S602
    assert json.loads(done.stdout)["type"] == "a"
    assert "Traceback" not in done.stderr
    with Ledger.open(path) as ledger:
        assert ledger.outbox.messages(parked=True) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--to", "ftp://example.com"),
        ("--to", "-", "--header", MARKER),
        ("--to", "-", "--topic", ""),
        ("--to", "-", "--timeout", "0"),
        ("--to", "-", "--attempts", "0"),
    ],
)
def test_wrong_usage_is_refused(path: Path, arguments: tuple[str, ...]) -> None:
    """With exit code 2 and nothing delivered; a header that may be a secret is not repeated."""
    done = run("relay", path, *arguments)
    assert done.returncode == 2
    assert MARKER not in done.stderr
    assert "Traceback" not in done.stderr
