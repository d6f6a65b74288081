"""Who owns a unit, and when that process is surely gone: never claimed of one that may be alive."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from memoryos_uow import _owner
from memoryos_uow.testing._forks import fork, kill_own_process

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="owners are told apart by /proc")


def test_this_process_is_not_gone() -> None:
    """A process finds itself alive, under one name."""
    assert not _owner.is_gone(_owner.own_name())
    assert _owner.own_name() == _owner.own_name()


def test_a_child_has_a_name_of_its_own() -> None:
    """After a fork the child is another owner, and its parent is not gone for it."""
    parent = _owner.own_name()

    def look() -> None:
        assert _owner.own_name() != parent
        assert not _owner.is_gone(parent)

    assert fork(look).wait() == (None, "")


def name_of_child() -> tuple[str, int]:
    """Start a child that says its name and then waits to be killed; return the name and the process id."""
    reading, writing = os.pipe()

    def work() -> None:
        os.write(writing, _owner.own_name().encode())
        signal.pause()

    child = fork(work)
    name = os.read(reading, 1000).decode()
    os.close(reading)
    os.close(writing)
    os.close(child._answer)
    return name, child.pid


def test_a_dead_process_is_gone_even_before_its_parent_takes_notice() -> None:
    """Alive it is not gone; stopped neither; killed it is, as a zombie and after it was waited for."""
    name, pid = name_of_child()
    assert not _owner.is_gone(name)
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    assert not _owner.is_gone(name)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert _owner.is_gone(name)
    os.waitpid(pid, 0)
    assert _owner.is_gone(name)


def test_a_number_that_was_given_to_another_process() -> None:
    """The same process id with another start is another process: the owner is gone."""
    host, visible, pid, start = json.loads(_owner.own_name())
    assert _owner.is_gone(json.dumps([host, visible, pid, start + 1]))


@pytest.mark.parametrize("position", [0, 1])
def test_what_cannot_be_seen_from_here_is_not_called_gone(position: int) -> None:
    """An owner of another boot or machine, or of another container, is left to its lease."""
    name = json.loads(_owner.own_name())
    name[position] = "somewhere else"
    name[2:] = [2**22 + 1, 1]
    assert not _owner.is_gone(json.dumps(name))


@pytest.mark.parametrize(
    "name", ["", "null", "5", "[]", "{}", '"abcd"', "[1,2,3,4]", "not json", "[null,null,null,null]"]
)
def test_a_name_that_makes_no_sense_is_not_called_gone(name: str) -> None:
    """Whatever stands in the column, nobody is declared dead because of it."""
    assert not _owner.is_gone(name)


def test_where_starts_cannot_be_told_nobody_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /proc every owner is left to its lease."""
    child = fork(kill_own_process)
    child.wait()
    monkeypatch.setattr(_owner, "_PROC", tmp_path)
    name = json.dumps([_owner._host(), _owner._visible_processes(), child.pid, None])
    assert not _owner.is_gone(name)


@pytest.mark.parametrize("comm", ["a b", ") (", "S 1 2 3", "\N{SNOWMAN}", ""])
def test_a_program_may_be_called_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, comm: str) -> None:
    """The name of a program, which may hold spaces and parentheses, does not shift the field that is read."""
    (tmp_path / "7").mkdir()
    fields = ["S", *map(str, range(1, 40))]
    (tmp_path / "7" / "stat").write_text(f"7 ({comm}) {' '.join(fields)}\n")
    monkeypatch.setattr(_owner, "_PROC", tmp_path)
    assert _owner._start_of(7) == 19
