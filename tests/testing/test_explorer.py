"""The crash explorer finds every seeded defect each time and says nothing against a correct program."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.testing import ExplorerError, __main__, explore, table, why_no_strace
from tests.memory_dir import memory_dir
from tests.testing import toys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NO_STRACE = why_no_strace()
needs_strace = pytest.mark.skipif(NO_STRACE is not None, reason=str(NO_STRACE))
CUTS = ("power-cut", "power-cut-ordered")


@pytest.fixture
def work_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory for the explorer; what a test finds on purpose is not kept."""
    with memory_dir(tmp_path) as place:
        yield place
        for kept in place.rglob("kept-*"):
            shutil.rmtree(kept)


# Seeded defects


@needs_strace
@pytest.mark.parametrize(
    ("program", "kinds", "problem"),
    [
        (toys.early_acknowledgement, ["kill"], "acknowledged and lost"),
        (toys.swapped, ["kill"], "a reference to nothing"),
        (toys.no_file_sync, ["power-cut"], "half a content"),
        (toys.no_file_sync, ["power-cut-ordered"], "half a content"),
        (toys.no_directory_sync, ["power-cut"], "acknowledged and lost"),
        (toys.no_directory_sync, ["power-cut-ordered"], "acknowledged and lost"),
        (toys.unlooped_write, ["short-write"], "half a content"),
    ],
)
def test_seeded_defect_is_found(program: Callable[..., None], kinds: list[str], problem: str, work_dir: Path) -> None:
    """A defect is found by the kind of failure that brings it out, with a point to go to."""
    found = explore(program, toys.whole, work_dir=work_dir, kinds=kinds, raises=[OSError])
    assert problem in {violation.problem.rpartition(": ")[2] for violation in found.violations}
    assert not found.ok
    with pytest.raises(AssertionError, match=problem):
        found.check()


@needs_strace
@pytest.mark.parametrize("program", [toys.no_file_sync, toys.no_directory_sync])
def test_missing_sync_is_not_blamed_on_a_kill(program: Callable[..., None], work_dir: Path) -> None:
    """A killed process loses nothing that it has written, so only a power cut shows a missing sync."""
    explore(program, toys.whole, work_dir=work_dir).check()


@needs_strace
def test_redo_that_cannot_be_repeated_is_found(work_dir: Path) -> None:
    """A journal that adds is redone twice by a crash between doing and forgetting; one that sets is not."""
    wrong = explore(toys.book_difference, toys.booked, setup=toys.open_account, work_dir=work_dir / "wrong")
    assert {violation.problem for violation in wrong.violations} == {"the balance is 20"}
    explore(toys.book_sum, toys.booked, setup=toys.open_account, work_dir=work_dir / "right").check()


@needs_strace
def test_defect_of_the_recovery_is_found_at_depth_two(work_dir: Path) -> None:
    """A recovery that forgets before it does is right after every crash but one in itself."""
    once = explore(toys.book_sum, toys.booked, setup=toys.open_account, work_dir=work_dir / "1")
    assert once.check().explored.keys() == {"kill"}
    options: dict[str, Any] = {"setup": toys.open_account, "depth": 2}
    twice = explore(toys.book_sum, toys.booked, recover=toys.redo_carelessly, work_dir=work_dir / "2", **options)
    assert {violation.kind for violation in twice.violations} == {"kill in recovery"}
    assert all(" " in violation.point for violation in twice.violations)
    right = explore(toys.book_sum, toys.booked, recover=toys.redo, work_dir=work_dir / "3", **options)
    assert right.check().explored["kill in recovery"] > 20


@needs_strace
def test_recovery_that_builds_on_what_was_not_synced_is_found(work_dir: Path) -> None:
    """A killed process's last write can be read and acted upon, and a power cut still loses it."""
    options: dict[str, Any] = {"kinds": ["power-cut"], "depth": 2}
    trusting = explore(toys.order, toys.ordered, recover=toys.carry_out, work_dir=work_dir / "1", **options)
    assert {violation.kind for violation in trusting.violations} == {"power-cut in recovery"}
    assert {violation.point.partition(" ")[0] for violation in trusting.violations} == {"kill@fsync#1", "kill@fsync#2"}
    careful = explore(toys.order, toys.ordered, recover=toys.carry_out_carefully, work_dir=work_dir / "2", **options)
    assert careful.check().explored["power-cut in recovery"] > 20


# No false alarm


@needs_strace
def test_correct_program_survives_everything(work_dir: Path) -> None:
    """Of a correct program nothing is reported: kills, errors once and for good, short writes, power cuts."""
    kinds = ["kill", "EIO", "EIO+", "ENOSPC", "ENOSPC+", "EMFILE", "EROFS+", "EACCES", "EINTR", "short-write", *CUTS]
    found = explore(toys.correct, toys.whole, work_dir=work_dir, kinds=kinds, raises=[OSError]).check()
    assert found.method == "strace"
    assert all(found.explored[kind] == found.possible[kind] for kind in kinds if kind not in CUTS)
    assert found.explored.keys() == set(kinds)
    assert min(found.explored.values()) > 0
    assert found.calls == {"fsync": 4, "openat": 2, "rename": 2, "write": 2}
    assert (found.missed, found.drifted, found.skipped, found.unreachable) == ([], [], {}, 0)
    assert not list(work_dir.glob("kept*"))


@needs_strace
def test_exploration_repeats_itself(work_dir: Path) -> None:
    """Two explorations of one program try the same points and find the same."""
    kinds = ["kill", "EIO", *CUTS]
    first, second = (
        explore(toys.swapped, toys.whole, work_dir=work_dir / name, kinds=kinds, raises=[OSError]) for name in "ab"
    )
    assert first.explored == second.explored
    assert [violation.point for violation in first.violations] == [violation.point for violation in second.violations]


# What a death is


@needs_strace
def test_killed_call_does_not_run(work_dir: Path) -> None:
    """At the point kill@rename#1 the file still has its old name."""
    found = explore(toys.swapped, "tests.testing.test_explorer:look", work_dir=work_dir, at="kill@rename#1")
    (violation,) = [one for one in found.violations if one.point != "undisturbed"]
    assert violation.problem == "['index.new']"
    assert violation.world is not None
    assert [path.name for path in violation.world.iterdir()] == ["index.new"]


def look(world: Path, _acknowledged: list[str]) -> str:
    """An oracle that only tells what is there."""
    return str(sorted(path.name for path in world.iterdir()))


@needs_strace
def test_acknowledgement_can_be_the_call_to_die_at(work_dir: Path) -> None:
    """Death between the last durable call and the answer is among the points: all there, nothing acknowledged."""
    found = explore(toys.correct, "tests.testing.test_explorer:look", work_dir=work_dir, at="kill@sendto#1")
    death = found.violations[-1]
    assert (death.point, death.acknowledged, death.problem) == ("kill@sendto#1", (), "['content', 'index']")


@needs_strace
def test_points_can_be_those_of_certain_calls(work_dir: Path) -> None:
    """Only the calls that were asked for are tried; how many there are in all is told still."""
    found = explore(toys.correct, toys.whole, work_dir=work_dir, calls=["fsync"]).check()
    assert (found.explored, found.possible) == ({"kill": 4}, {"kill": 11})


@needs_strace
def test_calls_of_exit_handlers_are_points(work_dir: Path) -> None:
    """A child ends as a program does: what its exit handlers do is explored too."""
    found = explore(toys.prints_and_exits, toys.whole, work_dir=work_dir).check()
    assert found.calls["rename"] == 2


@needs_strace
def test_processes_of_the_scenario_end_with_it(work_dir: Path) -> None:
    """A process that the scenario leaves behind is ended, and keeps nobody waiting."""
    found = explore(toys.leaves_a_process, toys.whole, work_dir=work_dir, limit=3, timeout_s=20).check()
    assert found.seconds < 20


@needs_strace
def test_second_thread_is_counted_apart(work_dir: Path) -> None:
    """Calls that strace cannot single out, because an earlier thread's have the same number, are counted as such."""
    found = explore(toys.with_threads, toys.whole, work_dir=work_dir).check()
    assert found.unreachable == 6  # three of each of two threads: the main thread's own come last


# What a disturbed run may do


@needs_strace
@pytest.mark.parametrize(
    ("program", "said"),
    [
        (toys.bug_on_error, "KeyError: 'oops'"),
        (toys.dies_on_error, "it died of SIGSEGV"),
        (toys.hangs_on_error, "it did not end by itself"),
    ],
)
def test_bad_end_after_an_error_is_a_violation(program: Callable[..., None], said: str, work_dir: Path) -> None:
    """A foreign exception, a crash and a hang are found, even where the world is whole."""
    options: dict[str, Any] = {"raises": [OSError], "timeout_s": 1.0, "limit": 2}
    found = explore(program, toys.whole, work_dir=work_dir, kinds=["ENOSPC"], **options)
    assert len(found.violations) == 2
    assert all(f"the scenario ended badly: {said}" in violation.problem for violation in found.violations)


@needs_strace
def test_lasting_failure_stays_in_the_world(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for good is the world's: what the program writes elsewhere still works."""
    outside = work_dir / "outside"
    monkeypatch.setenv(toys.OUTSIDE, str(outside))
    options: dict[str, Any] = {"kinds": ["EIO+", "ENOSPC+"], "raises": [OSError]}
    explore(toys.with_outside, toys.whole, work_dir=work_dir / "work", **options).check()
    assert outside.read_bytes() == b"after"


# Power cuts


@needs_strace
@pytest.mark.parametrize("kind", CUTS)
def test_recording_is_followed_through_all_sorts_of_calls(kind: str, work_dir: Path) -> None:
    """Appending, seeking, duplicating, vectors, cutting, links and renamed directories: the synced end is as it was."""
    found = explore(toys.many_kinds_of_calls, toys.all_or_any, work_dir=work_dir, kinds=[kind]).check()
    assert found.explored[kind] > 20


@needs_strace
def test_file_in_shared_memory_is_refused(work_dir: Path) -> None:
    """What cannot be followed is refused, never guessed."""
    with pytest.raises(ExplorerError, match="mmap does to memory cannot be followed"):
        explore(toys.mapped, toys.content, work_dir=work_dir, kinds=["power-cut"])


# Without strace


@pytest.mark.parametrize(
    ("program", "oracle", "setup"),
    [
        (toys.early_acknowledgement, toys.whole, None),
        (toys.swapped, toys.whole, None),
        (toys.book_difference, toys.booked, toys.open_account),
    ],
)
def test_fault_points_find_what_a_kill_shows(
    program: Callable[..., None], oracle: Callable[..., None], setup: Callable[..., None] | None, work_dir: Path
) -> None:
    """Without strace the named fault points find every defect that a kill can bring out."""
    found = explore(program, oracle, setup=setup, work_dir=work_dir, method="fault points")
    assert found.method == "fault points"
    assert any("@os." in violation.point for violation in found.violations)


def test_fault_points_report_nothing_of_a_correct_program(work_dir: Path) -> None:
    """Nor do they raise a false alarm; what needs strace is skipped and named."""
    found = explore(toys.correct, toys.whole, work_dir=work_dir, kinds=["kill", "EIO"], method="fault points").check()
    assert found.explored == {"kill": 12}
    assert found.skipped == {"EIO": "needs strace, and it was not asked for"}
    assert "EIO skipped" in found.summary()


def test_missing_strace_falls_back_to_fault_points(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no strace, fault points are used unless strace was asked for."""
    monkeypatch.setenv("PATH", str(work_dir))
    found = explore(toys.correct, toys.whole, work_dir=work_dir / "work", kinds=["kill", "power-cut"]).check()
    assert found.method == "fault points"
    assert found.skipped == {"power-cut": "needs strace, and strace is not installed"}
    with pytest.raises(ExplorerError, match="strace is not installed"):
        explore(toys.correct, toys.whole, work_dir=work_dir / "work", method="strace")


# Wrong use


def inner() -> Callable[[Path], None]:
    """Return a function that no other process can find."""

    def hidden(_world: Path) -> None:
        pass

    return hidden


@pytest.mark.parametrize(
    ("program", "options", "said"),
    [
        (inner(), {}, "cannot be found again"),
        ("nowhere", {}, "names no function"),
        ("tests.testing.toys:nothing", {}, "no function tests.testing.toys:nothing"),
        ("tests.testing.absent:f", {}, "ModuleNotFoundError"),
        (toys.fails, {}, "ValueError: fails by itself"),
        (toys.differs, {}, "does not repeat itself"),
        (toys.correct, {"kinds": ["EWHAT"]}, "no kind of failure"),
        (toys.correct, {"depth": 2}, "recover="),
    ],
)
def test_wrong_use_is_refused_with_a_reason(
    program: Callable[..., None] | str, options: dict[str, Any], said: str, work_dir: Path
) -> None:
    """A function that is not there, fails by itself or does not repeat itself is refused, not half explored."""
    with pytest.raises(ExplorerError, match=said):
        explore(program, toys.whole, work_dir=work_dir, **options)


def test_directory_of_somebody_else_is_left_alone(work_dir: Path) -> None:
    """A work_dir that holds anything but an earlier exploration is refused."""
    (work_dir / "precious").touch()
    with pytest.raises(ExplorerError, match="not empty"):
        explore(toys.correct, toys.whole, work_dir=work_dir)
    assert (work_dir / "precious").exists()


def test_broken_promise_without_any_failure_is_reported(work_dir: Path) -> None:
    """An oracle that is not content with an undisturbed run says so at once."""
    found = explore(toys.correct, toys.booked, work_dir=work_dir, limit=0, method="fault points")
    assert found.violations[0].point == "undisturbed"


# Telling


@needs_strace
def test_replay_command_goes_to_the_same_point(work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line of a violation explores that one point and finds the same."""
    violation = explore(toys.swapped, toys.whole, work_dir=work_dir / "a").violations[0]
    command = shlex.split(violation.replay)
    assert command[1:3] == ["-m", "memoryos_uow.testing"]
    assert __main__.main([*command[3:], "--work-dir", str(work_dir / "b")]) == 1
    said = capsys.readouterr().out
    assert "kill 1 of" in said
    assert f"{violation.point}: {violation.problem}" in said


def test_command_line_answers_with_its_exit_code(work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0: all promises hold; 2: nothing could be explored, and why."""
    program = os.path.relpath(toys.__file__)
    arguments = [f"{program}:correct", f"{program}:whole", "--limit", "2", "--method", "fault points"]
    assert __main__.main([*arguments, "--work-dir", str(work_dir / "a")]) == 0
    assert "kill 2 of 12 explored; 0 violations" in capsys.readouterr().out
    assert __main__.main([f"{program}:fails", f"{program}:whole", "--work-dir", str(work_dir / "b")]) == 2
    assert "fails by itself" in capsys.readouterr().err


def test_table_sums_up(work_dir: Path) -> None:
    """The Markdown table has a row for each kind and the sums."""
    found = explore(toys.correct, toys.whole, work_dir=work_dir, method="fault points", limit=3)
    lines = table([found, found]).splitlines()
    assert lines[2] == lines[3] == "| correct | nothing | kill | fault points | 3 | 12 | 0 |"
    assert lines[-1] == "| all | | | | 6 | 24 | 0 |"


def test_progress_is_told(work_dir: Path) -> None:
    """The callback hears of each point, with the number of all."""
    heard: list[tuple[str, int, int]] = []
    explore(
        toys.correct,
        toys.whole,
        work_dir=work_dir,
        method="fault points",
        limit=3,
        progress=lambda *told: heard.append(told),
    )
    assert heard == [("kill", 1, 3), ("kill", 2, 3), ("kill", 3, 3)]
