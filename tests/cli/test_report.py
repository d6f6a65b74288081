"""``memoryos-uow report``: where the page goes, and what is never written over."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from tests.cli.tools import invoke, make_ledger, run, write

if TYPE_CHECKING:
    from pathlib import Path


def test_page_is_written_and_replaced(tmp_path: Path) -> None:
    """The page appears under its name, replaces an older one whole, and leaves nothing beside it."""
    path = make_ledger(tmp_path / "ledger.db")
    (tmp_path / "page.html").write_text("an older one")
    result = invoke("report", path, "-o", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "is written: 9 units" in result.stderr
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(one.name for one in tmp_path.glob("*page*")) == ["page.html"]


def test_page_goes_to_stdout(tmp_path: Path) -> None:
    """-o - prints the page as UTF-8, whatever the terminal's encoding."""
    path = make_ledger(tmp_path / "ledger.db")
    done = run("report", path, "-o", "-", "--no-verify", env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")
    assert "家族:共有" in done.stdout


@pytest.mark.parametrize("place", ["ledger.db", "ledger.db-stats", "other.db", "folder", "nowhere/page.html"])
def test_refuses_places(tmp_path: Path, place: str) -> None:
    """A database, a directory, and a place that is not there are refused, and left as they are."""
    path = make_ledger(tmp_path / "ledger.db")
    make_ledger(tmp_path / "other.db")
    invoke("stats", path)
    (tmp_path / "folder").mkdir()
    before = path.read_bytes()
    result = invoke("report", path, "-o", tmp_path / place)
    assert (result.exit_code, path.read_bytes()) == (2, before)
    assert "Hint: " in result.stderr


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    """--live without verifying cannot be meant."""
    path = make_ledger(tmp_path / "ledger.db")
    assert invoke("report", path, "-o", "-", "--live", "--no-verify").exit_code == 2


def test_only_some_time(tmp_path: Path) -> None:
    """With times only the units of these are counted, and the page says so."""
    path = make_ledger(tmp_path / "ledger.db")
    text = invoke("report", path, "-o", "-", "--since", "2999-01-01").stdout
    assert "only units made since <bdi>2999-01-01T00:00:00.000000Z</bdi>" in text
    assert "No unit of work is recorded here" in text


def test_while_the_ledger_is_written(tmp_path: Path) -> None:
    """Pages made while another thread commits are whole, and their counts agree with each other."""
    over = threading.Event()
    with Ledger.open(tmp_path / "ledger.db") as ledger:

        def work() -> None:
            number = 0
            while not over.is_set():
                number += 1
                write(ledger, "GREEN", f"n{number}")

        writer = threading.Thread(target=work)
        writer.start()
        try:
            for _ in range(3):
                result = invoke("report", ledger.path, "-o", tmp_path / "page.html")
                assert result.exit_code == 0, result.stderr
                assert (tmp_path / "page.html").read_text(encoding="utf-8").endswith("</html>\n")
        finally:
            over.set()
            writer.join()


def test_a_full_disk_leaves_the_older_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written whole does not replace what was there."""
    path = make_ledger(tmp_path / "ledger.db")
    (tmp_path / "page.html").write_text("an older one")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    result = invoke("report", path, "-o", tmp_path / "page.html")
    assert (result.exit_code, "No space left" in result.stderr) == (1, True)
    assert (tmp_path / "page.html").read_text() == "an older one"
    assert sorted(one.name for one in tmp_path.glob("*page*")) == ["page.html"]
