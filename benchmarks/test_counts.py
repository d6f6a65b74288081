"""Holds down what a unit of work does, by the counts of `benchmarks.counts` and the ceilings of ceilings.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import counts

if TYPE_CHECKING:
    from benchmarks.counts import Counts

_CEILINGS = counts.ceilings()
_ALONE = [(section, name) for section, names in _CEILINGS.items() for name in names if not name.startswith("syncs_")]


@pytest.fixture(scope="module")
def counted() -> Counts:
    """The counts of a process of its own."""
    return counts.counted_in_child()


@pytest.mark.parametrize(("section", "name"), _ALONE)
def test_count_is_below_its_ceiling(counted: Counts, section: str, name: str) -> None:
    """A unit does not do more than the ceiling allows."""
    count, ceiling = counted[section][name], _CEILINGS[section][name]
    assert count <= ceiling, (
        f"{section}.{name} rose to {count:,.2f}; its ceiling is {ceiling:,}."
        " Find out what is done more than before; benchmarks/ceilings.toml says how to go on."
    )


def test_every_count_has_a_ceiling(counted: Counts) -> None:
    """Nothing is counted in vain: what `benchmarks.counts` counts, ceilings.toml bounds."""
    assert {(section, name) for section, names in counted.items() for name in names} == set(_ALONE)


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("kind", counts.KINDS)
def test_syncs_are_exactly_as_many_as_allowed(
    tmp_path_factory: pytest.TempPathFactory, kind: str, durability: str
) -> None:
    """A unit waits for the disk as often as its ceiling says and never less: each of these syncs keeps a promise."""
    why_not = counts.why_no_strace()
    if why_not:
        pytest.skip(why_not)
    found = counts.count_syncs(kind, durability, tmp_path_factory.mktemp("syncs"))
    assert found == _CEILINGS[kind][f"syncs_{durability}"]


def test_lowering_writes_what_fell_and_leaves_what_rose() -> None:
    """`--lower` never raises a ceiling and keeps the comments."""
    text = "# why\n[unit]\na = 10   # first\nb = 2.5\nc = 3\n[other]\na = 7\n"
    after = counts.lowered(text, {"unit": {"a": 8.0, "b": 2.41, "c": 4}, "other": {"b": 1}})
    assert after == "# why\n[unit]\na = 8    # first\nb = 2.5\nc = 3\n[other]\na = 7\n"
    assert counts.lowered(text, {"unit": {"b": 2.31}}) == text.replace("2.5", "2.4")
