"""pytest plugin of memoryos-uow: the fixture ``crash_explorer``, so that a crash test is five lines.

::

    def test_an_order_survives_a_crash(crash_explorer):
        crash_explorer(place_order, everything_is_whole, setup=open_shop, limit=50)

The arguments are those of `memoryos_uow.testing.explore`, without `work_dir`. The test fails if a promise is broken,
and is skipped if nothing of what it asks for can be explored here.

Options: ``--explore-limit N`` sets every `limit`, 0 does away with them; ``--explore-report FILE`` writes a table.

This file stands beside the package and imports nothing of it before the fixture is asked for: pytest loads plugins in
every run, also of projects that have the library installed for other reasons, and before coverage begins to measure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from memoryos_uow.testing import Exploration, Reference

_explored = pytest.StashKey[list["Exploration"]]()


class CrashExplorer:
    """Calls `memoryos_uow.testing.explore` for a test, and checks what it finds."""

    def __init__(self, config: pytest.Config, work_dir: Path) -> None:
        self._config = config
        self._work_dir = work_dir

    def __call__(
        self, scenario: Reference, oracle: Reference, *, limit: int | None = None, **options: Any
    ) -> Exploration:
        """Explore; return what was found if no promise was broken.

        Raises:
            AssertionError: a promise was broken; the message tells where, and how to go there again.
            ExplorerError: a function cannot be found, fails undisturbed, or does not repeat itself.
        """
        from memoryos_uow.testing import explore  # noqa: PLC0415 - see above

        wanted = self._config.getoption("--explore-limit")
        if wanted is not None:
            limit = wanted or None
        explored = self._config.stash.setdefault(_explored, [])
        options.setdefault("work_dir", self._work_dir / f"exploration-{len(explored)}")
        found = explore(scenario, oracle, limit=limit, **options)
        explored.append(found)
        found.check()
        if found.skipped and not found.points:
            pytest.skip("; ".join(f"{kind}: {why}" for kind, why in found.skipped.items()))
        return found


@pytest.fixture
def crash_explorer(request: pytest.FixtureRequest, tmp_path: Path) -> CrashExplorer:
    """Explore crashes of a scenario: see `memoryos_uow.testing.explore`, whose arguments it takes."""
    return CrashExplorer(request.config, tmp_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("memoryos-uow")
    group.addoption(
        "--explore-limit", type=int, metavar="N", help="explore N crash points of each kind, 0: all of them"
    )
    group.addoption("--explore-report", metavar="FILE", help="write a table of what crash_explorer explored")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the explorations, if their limit was asked for, and write the report."""
    found = config.stash.get(_explored, [])
    if not found:
        return
    if config.getoption("--explore-limit") is not None:
        terminalreporter.section("explored")
        for exploration in found:
            terminalreporter.line(exploration.summary())
    report = config.getoption("--explore-report")
    if report:
        from memoryos_uow.testing import table  # noqa: PLC0415 - see above

        Path(report).write_text(table(found), encoding="utf-8")
