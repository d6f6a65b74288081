"""The front door: what `import memoryos_uow` offers, and when it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

import memoryos_uow


def test_every_public_name_is_there() -> None:
    """Each name of __all__ can be had, is listed by dir(), and nothing else is offered."""
    for name in memoryos_uow.__all__:
        assert getattr(memoryos_uow, name) is not None
    assert set(memoryos_uow.__all__) <= set(dir(memoryos_uow))
    assert set(memoryos_uow.__all__) == {*memoryos_uow._MODULE_OF, "__version__"}


def test_other_names_are_not() -> None:
    """A name that does not exist is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="no attribute 'Unit'"):
        memoryos_uow.Unit  # noqa: B018 - looking is the test


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    """The import alone loads one module beside the package itself."""
    code = "import sys, memoryos_uow; print(sorted(name for name in sys.modules if name.startswith('memoryos')))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "['memoryos_uow', 'memoryos_uow._version']"
