"""The tree of exceptions, and what each carries."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

import memoryos_uow
from memoryos_uow import errors
from memoryos_uow.errors import UnitOfWorkError

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, UnitOfWorkError)]
RETRYABLE = {"ConflictError", "LedgerBusy", "SinkError", "SinkUnavailable", "StoreUnavailable", "UnitTimeout"}
IN_DOUBT = {"InDoubtError"}


def drawn_tree() -> dict[str, str]:
    """The parent of each class, read off the indentation of the tree in the module's docstring."""
    path = ["UnitOfWorkError"]
    parents = {"UnitOfWorkError": "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        branch = re.match(r"    ([│ ]*)[├└]── (\w+)", line)
        if branch:
            depth = len(branch[1]) // 4 + 1
            parents[branch[2]] = path[depth - 1]
            path[depth:] = [branch[2]]
    return parents


def test_the_drawn_tree_is_the_tree() -> None:
    """Every class stands in the tree that the module draws, below the class that it derives from."""
    assert {each.__name__: each.__bases__[0].__name__ for each in CLASSES} == drawn_tree()


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_is_public_and_advises(kind: type[UnitOfWorkError]) -> None:
    """Each class can be imported from the package, and says whether to try again and whether it is in doubt."""
    if kind is not UnitOfWorkError:
        assert getattr(memoryos_uow, kind.__name__) is kind
    assert kind.retryable == (kind.__name__ in RETRYABLE)
    assert kind.in_doubt == (kind.__name__ in IN_DOUBT)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_summary_is_one_sentence_of_its_own(kind: type[UnitOfWorkError]) -> None:
    """The summary, which a unit of band AMBER may record, is a constant sentence that no other class has."""
    assert re.fullmatch(r"[A-Z][^.%{}]+\.", kind.summary)
    assert [each.summary for each in CLASSES].count(kind.summary) == 1


def test_text_is_message_and_hint() -> None:
    """An error reads as its message followed by its hint, or as its message alone."""
    assert str(UnitOfWorkError("It rains.", hint="Take an umbrella.")) == "It rains. Take an umbrella."
    assert str(UnitOfWorkError("It rains.")) == "It rains."


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])  # noqa: S301 - our own
def test_facts_survive_a_copy_and_a_process_border(kind: type[UnitOfWorkError], again: object) -> None:
    """A copied or unpickled error, as a process pool hands it back, has the same class, text and facts."""
    assert callable(again)
    error = kind("It rains.", hint="Take an umbrella.", uow_id="u1", store="notes")
    twin = again(error)
    assert type(twin) is kind
    assert (str(twin), vars(twin)) == (str(error), vars(error))
    assert (twin.uow_id, twin.store) == ("u1", "notes")
