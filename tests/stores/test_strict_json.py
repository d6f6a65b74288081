"""JSON that gives back what it was given, whichever encoder this interpreter has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.stores import _strict_json

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES: list[Any] = [{"a": [1, -2.5, None, True, 'ä\n"\\ \u2028'], "b": {}}, [], "text", 1e300, 2**70, None, False]


def other_arguments(*_: object) -> None:
    """An encoder of a Python to come."""
    raise TypeError


def other_answer(*_: object) -> Callable[[object, int], tuple[str, ...]]:
    """One that takes the arguments for something else."""
    return lambda value, _: ("?",)


@pytest.mark.parametrize("made", [None, other_arguments, other_answer])
def test_without_the_quick_encoder_the_text_is_the_same(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """Python's quick encoder is not promised by its documentation; without it the public one does the work."""
    monkeypatch.setattr(json.encoder, "c_make_encoder", made)
    slow = _strict_json._ready_encoder()
    monkeypatch.undo()
    for value in VALUES:
        text, content = _strict_json.to_json(value, bytes_max=10_000, store="notes")
        assert "".join(slow(value, 0)) == text == content.decode()
        assert json.loads(text) == value
