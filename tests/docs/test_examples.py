"""The examples are really run: what is wrong in one is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sybil import Document
from sybil.example import SybilFailure

from tests.docs.examples import StandIns, console_blocks, python_blocks, set_up, tear_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ID = "01a20569-7104-7000-ac0d-9df1b2981f81"
OTHER_ID = "01a20569-710a-7000-ae48-63775d949fed"


@pytest.fixture
def run() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Run the examples of a text, one text per test; return their names."""
    opened = []

    def run_text(text: str) -> dict[str, Any]:
        document = Document(text, "page.md")
        for parser in (python_blocks, console_blocks):
            for region in parser(document):
                document.add(region)
        set_up(document.namespace)
        opened.append(document.namespace)
        for example in document.examples():
            example.evaluate()
        return document.namespace

    yield run_text
    for namespace in opened:
        tear_down(namespace)


def block(mark: str, *lines: str) -> str:
    """A block of a page."""
    return "\n".join((f"```{mark}", *lines, "```", ""))


def test_blocks_share_names_and_a_directory_of_their_own(run: Callable[[str], dict[str, Any]]) -> None:
    """A later block sees the names and files of an earlier one, and a command sees the files too."""
    text = block("python", "import os", "name = 'f'", "open(name, 'w').close()")
    text += block("python", "print(os.listdir())") + block("output", "['f']") + block("console", "$ ls", "f")
    assert run(text)["name"] == "f"


@pytest.mark.parametrize(
    "text",
    [
        block("python", "print(1)") + block("output", "2"),
        block("python", "print(1)"),
        block("python", "pass") + block("output", "1"),
        block("console", "$ echo 1", "2"),
        block("console", "$ false"),
        block("console", "$ true  # exits with 1"),
    ],
    ids=["other output", "hidden output", "no output", "other answer", "failing command", "command that should fail"],
)
def test_what_is_not_as_shown_is_noticed(run: Callable[[str], dict[str, Any]], text: str) -> None:
    """An example fails if its output or its end differs from what the page shows, also where the page shows none."""
    with pytest.raises(SybilFailure):
        run(text)


def test_an_exception_of_an_example_is_not_hidden(run: Callable[[str], dict[str, Any]]) -> None:
    """What a block raises arrives, with the line of the page in its traceback."""
    with pytest.raises(ZeroDivisionError) as caught:
        run("one\n\n" + block("python", "1 / 0"))
    place = caught.traceback[-1]
    assert (str(place.path), place.lineno + 1) == ("page.md", 4)


def test_a_missing_program_skips_the_block(run: Callable[[str], dict[str, Any]]) -> None:
    """A command whose program is not installed, anywhere in a pipe, is skipped with a reason."""
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        run(block("console", "$ echo 1 | no-such-program", "1"))


def test_a_stand_in_means_one_thing_only() -> None:
    """An id stands for the first one that is printed in its place, and from then on for no other."""
    known = StandIns()
    assert known.problem(f"unit {ID}", f"unit {OTHER_ID}") is None
    assert known.filled_in(f"show {ID}") == f"show {OTHER_ID}"
    assert known.problem(f"again {ID}", f"again {OTHER_ID}") is None
    assert known.problem(f"again {ID}", f"again {ID}") is not None


def test_one_stand_in_may_not_mean_two_things_in_one_output() -> None:
    """An id that is shown twice must be printed twice."""
    assert StandIns().problem(f"{ID} {ID}", f"{ID} {OTHER_ID}") is not None
    assert StandIns().problem(f"{ID} {ID}", f"{OTHER_ID} {OTHER_ID}") is None


def test_times_durations_and_gaps_may_differ() -> None:
    """Times and durations stand for others of their form, three dots for anything; all else has to be equal."""
    shown = "at 2026-11-22T19:20:31.110000Z, 5 ms, ... end"
    assert StandIns().problem(shown, "at 2030-01-01T00:00:00.000000Z, 1,234.5 ms, and so on\nto the end\n") is None
    assert StandIns().problem(shown, "at 2030-01-01, 5 ms, end") is not None
