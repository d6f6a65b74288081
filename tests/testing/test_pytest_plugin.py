"""The pytest plugin: a user's crash test is five lines, fails with the way to the point, and can be made exhaustive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import memoryos_uow

SOURCE: Final = Path(memoryos_uow.__file__).parents[1]
PAGE: Final = Path(__file__).parents[2] / "docs/how-to/explore-crashes.md"

PROGRAM: Final = """
from memoryos_uow.testing import acknowledge


def save(world):
    (world / "saved").write_text("all of it")
    acknowledge("saved")


def whole(world, acknowledged):
    path = world / "saved"
    assert path.exists() or not acknowledged, "lost"
    assert not path.exists() or path.read_text() == "all of it", "half"


def test_saving(crash_explorer):
    crash_explorer(save, whole)
"""


def run_pytest(folder: Path, *options: str) -> str:
    """What pytest says about the tests in `folder`, with the plugin and nothing of this project's configuration."""
    command = [sys.executable, "-m", "pytest", "-p", "_memoryos_uow_pytest", "-p", "no:cacheprovider", "-rs", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=folder, env={**kept, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def make(folder: Path, program: str) -> Path:
    """A project of somebody else's, with one test module."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_saving.py").write_text(program)
    return folder


def test_broken_promise_fails_the_test_and_says_where(tmp_path: Path) -> None:
    """Writing in place leaves half a file behind; the report names the point and a command that goes there."""
    said = run_pytest(make(tmp_path, PROGRAM))
    assert "1 failed" in said
    assert re.search(r"kill@\S+#1: half", said)
    assert "-m memoryos_uow.testing" in said


def test_all_points_and_a_report_on_demand(tmp_path: Path) -> None:
    """--explore-limit overrides the test's; --explore-report writes a table."""
    in_place = '(world / "saved").write_text("all of it")'
    by_rename = '(world / "new").write_text("all of it")\n    (world / "new").rename(world / "saved")'
    make(tmp_path, PROGRAM.replace(in_place, by_rename).replace("whole)", "whole, limit=2)"))
    assert "1 passed" in run_pytest(tmp_path, "--explore-report=short.md")
    said = run_pytest(tmp_path, "--explore-limit=0", "--explore-report=all.md")
    assert "1 passed" in said
    assert "test_saving:save by" in said
    short, everything = ((tmp_path / name).read_text().splitlines()[-1] for name in ("short.md", "all.md"))
    assert short.startswith("| all | | | | 2 | ")
    assert re.fullmatch(r"\| all \| \| \| \| (\d+) \| \1 \| 0 \|", everything)


def test_what_cannot_be_explored_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """A test of kinds that need strace is skipped where strace is not to be used."""
    make(tmp_path, PROGRAM.replace("whole)", 'whole, kinds=["EIO"], method="fault points")'))
    said = run_pytest(tmp_path)
    assert "1 skipped" in said
    assert "EIO: needs strace" in said


def test_plugin_loads_nothing_of_the_library(tmp_path: Path) -> None:
    """Plugins are loaded in every run: this one imports the library only when the fixture is asked for."""
    make(tmp_path, "import sys\n\n\ndef test_imports():\n    assert 'memoryos_uow' not in sys.modules\n")
    assert "1 passed" in run_pytest(tmp_path)


def test_page_shows_what_works(tmp_path: Path) -> None:
    """The example of the how-to page is a test module that passes as it stands."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert "1 passed" in run_pytest(make(tmp_path, "\n\n".join(blocks)))
